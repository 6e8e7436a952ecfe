// Work for libtorch's own threads. at::parallel_for would bring OpenMP into this library, with a second set
// of threads if libtorch's libgomp has another file name.
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace torchreel {

// Calls work(begin, end) for parts of [0, count) of at least `grain`, and returns when all are done.
void in_parallel(int64_t count, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work);

}  // namespace torchreel
