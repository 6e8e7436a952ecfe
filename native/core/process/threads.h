// How many threads an operation on the CPU uses. Each job thread has its own number.
#pragma once

#include "torchreel_core.h"

namespace torchreel {

// Of the calling thread's operations from now on; 0: no change.
void set_threads(int32_t threads);

// As the listener wishes.
void take_threads(const torchreel_listener& listener);

}  // namespace torchreel
