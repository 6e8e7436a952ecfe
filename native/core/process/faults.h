// What may fail in the core when a test orders it (fault_order.h); empty in an ordinary build.
#pragma once

#include <ATen/core/Tensor.h>

namespace torchreel::faults {

#ifdef TORCHREEL_FAULTS

// From now on tensors' memory is counted, and refused by kind "allocation".
void watch_allocations();

// Bytes of tensors on the CPU.
int64_t live_bytes();

// A place of work. Kinds: "int" and "exception" are thrown as such, "bad_alloc", "torch" as c10::Error,
// "device" as libtorch says that a CUDA device is lost.
void point();

// What a network gave; kind "nan" makes it NaN.
void spoil(at::Tensor& result);

#else

inline void watch_allocations() {}
inline int64_t live_bytes() { return -1; }  // unknown
inline void point() {}
inline void spoil(at::Tensor&) {}

#endif

}  // namespace torchreel::faults
