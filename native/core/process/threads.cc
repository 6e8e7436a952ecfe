#include "threads.h"

#include <ATen/Parallel.h>

#include "parallel.h"

namespace torchreel {

void set_threads(int32_t threads) {
  if (threads > 0) at::set_num_threads(threads);
}

void take_threads(const torchreel_listener& listener) {
  if (!listener.threads) return;
  torchreel_threads chosen = listener.threads(listener.context);
  if (chosen.threads != at::get_num_threads()) set_threads(chosen.threads);
  work_in_pieces(chosen.team, chosen.apart);
}

}  // namespace torchreel
