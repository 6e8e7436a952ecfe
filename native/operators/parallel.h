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
// threads, itself one of them. Each takes the next piece when it is done with one, so that a thread that
// waits for a processor leaves its work to the others. For processors that other programs use, too. 0: equal
// parts again. apart: the others keep away from the calling thread's processor. It has work between the
// operators, too, so it should have a processor for itself if one is free.
void work_in_pieces(int32_t threads, bool apart);

}  // namespace torchreel
