#include "threads.h"

#include <ATen/Parallel.h>

namespace torchreel {

void set_threads(int32_t threads) {
  if (threads > 0) at::set_num_threads(threads);
}

void take_threads(const torchreel_listener& listener) {
  int32_t threads = listener.threads ? listener.threads(listener.context) : 0;
  if (threads != at::get_num_threads()) set_threads(threads);
}

}  // namespace torchreel
