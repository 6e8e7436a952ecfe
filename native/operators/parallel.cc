#include "parallel.h"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "thread_team.h"

namespace torchreel {
namespace {

using Clock = std::chrono::steady_clock;

// The other threads are woken only for work that takes at least this long.
constexpr std::chrono::microseconds worth_waking(300);

// Of the calling thread. The team is kept while the work is divided into equal parts, since this may change
// at each step.
thread_local std::unique_ptr<ThreadTeam> team;
thread_local bool in_pieces = false;

void in_equal_parts(int64_t count, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work) {
  // libtorch iterates over one byte for each piece of work. The bytes are neither read nor written.
  // at::parallel_for would bring OpenMP into this library, with a second set of threads if libtorch's libgomp
  // has another file name.
  at::Tensor bytes = at::empty({count}, at::kByte);
  const char* first = static_cast<const char*>(bytes.const_data_ptr());
  auto part = [&](char** data, const int64_t*, int64_t columns, int64_t rows) {
    int64_t begin = data[0] - first;
    work(begin, begin + columns * rows);
  };
  at::TensorIterator::nullary_op(bytes).for_each(part, grain);
}

}  // namespace

void work_in_pieces(int32_t threads, bool apart) {
  in_pieces = false;
  if (threads <= 1) return;
  if (!team || team->wanted() != threads) team = std::make_unique<ThreadTeam>(threads);
  team->set_apart(apart);
  in_pieces = true;
}

int64_t parallel_threads() { return in_pieces ? team->threads() : at::get_num_threads(); }

int64_t parallel_thread() {
  int64_t member = ThreadTeam::member();
  return member ? member : at::get_thread_num();
}

void in_parallel(int64_t count, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work) {
  if (count <= grain) return work(0, count);
  if (!in_pieces) return in_equal_parts(count, grain, work);
  int64_t pieces = 8 * team->threads(), size = std::max(grain, (count + pieces - 1) / pieces);
  // Few pieces of 1 are large: the other threads must not wait while the first is tried.
  if (grain == 1 && count < pieces) return team->run(0, count, size, work);
  Clock::time_point started = Clock::now();
  work(0, grain);
  if ((count - grain) / grain * (Clock::now() - started) < worth_waking)
    work(grain, count);
  else
    team->run(grain, count, size, work);
}

}  // namespace torchreel
