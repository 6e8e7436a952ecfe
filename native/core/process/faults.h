// The failures that a test can order in the core (fault_order.h). Empty in an ordinary build.
#pragma once

#include <ATen/core/Tensor.h>

namespace torchreel::faults {

#ifdef TORCHREEL_FAULTS

// From now on the memory of tensors is counted. Kind "allocation" refuses it.
void watch_allocations();

// Bytes of tensors on the CPU.
int64_t live_bytes();

// A place in the work that can fail. Kinds: "int", "exception" and "bad_alloc" throw these, "torch" a
// c10::Error, "device" the error with which libtorch reports a lost CUDA device.
void point();

// The output of a network. Kind "nan" makes it NaN.
void spoil(at::Tensor& result);

#else

inline void watch_allocations() {}
inline int64_t live_bytes() { return -1; }  // unknown
inline void point() {}
inline void spoil(at::Tensor&) {}

#endif

}  // namespace torchreel::faults
