#include "threads.h"

#include <ATen/Parallel.h>

namespace torchreel {

void set_threads(int32_t threads) {
  if (threads > 0 && threads != at::get_num_threads()) at::set_num_threads(threads);
}

void take_threads(const torchreel_listener& listener) {
  if (listener.threads) set_threads(listener.threads(listener.context));
}

}  // namespace torchreel
