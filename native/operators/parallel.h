// Work of an operator for several threads.
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace torchreel {

// Calls work(begin, end) for parts of [0, count) of at least `grain`, and returns when all are done. The
// parts are equal and go to libtorch's threads, or are pieces (below).
void in_parallel(int64_t count, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work);

// The most threads that in_parallel uses now, and the number of the calling one among them, from 0.
int64_t parallel_threads();
int64_t parallel_thread();

// From now on, in_parallel of the calling thread cuts its work into small pieces for a team of `threads`
// threads. The calling thread is one of them. Each takes the next piece when it has finished one, so a thread
// that must wait for a processor does less of the work. This helps while other programs use the processors.
// threads 0: equal parts again. apart: the other threads stay away from the calling thread's processor,
// because the calling thread also has work between the operators.
void work_in_pieces(int32_t threads, bool apart);

}  // namespace torchreel
