// Work for libtorch's own threads. at::parallel_for would bring OpenMP into this library, and its threads
// need not be libtorch's: a libgomp under another name is another one.
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace torchreel {

// work(begin, end) for parts of [0, count), of `grain` and more; all are done when it returns.
void in_parallel(int64_t count, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work);

}  // namespace torchreel
