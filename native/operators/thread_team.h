// Threads that sleep until there is work. An operation does not wait for those that wake late, as libtorch's
// threads wait for each other.
#pragma once

#include <c10/util/FunctionRef.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace torchreel {

// The thread that makes a team is member 0 and does work as well. Only it may use the team.
class ThreadTeam {
 public:
  // Of fewer threads if the system gives no more.
  explicit ThreadTeam(int64_t threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  // As many as the constructor was asked for, and the members that there are, with the owner.
  int64_t wanted() const { return wanted_; }
  int64_t threads() const { return static_cast<int64_t>(others_.size()) + 1; }

  // Whether the others stay away from the processor on which the owner is when `run` begins.
  void set_apart(bool apart) { apart_ = apart; }

  // Calls work(begin, end) for pieces of [first, count), each of `size`, and returns when all are done. It
  // waits for members that have taken a piece, not for those that are still asleep. Only members whose number
  // is below `count` take pieces. Throws what `work` throws.
  void run(int64_t first, int64_t count, int64_t size, c10::function_ref<void(int64_t, int64_t)> work);

  // The number of the calling thread in its team; 0 if it is in none.
  static int64_t member();

 private:
  struct Task;

  void take_part(int64_t member);
  void choose_processors();

  const int64_t wanted_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  Task* task_ = nullptr;  // guarded by mutex_; of `run`, while it has pieces
  bool closing_ = false;  // guarded by mutex_
  bool apart_ = false;
  int left_ = -1;  // the processor that is left to the owner; -1: none
  std::vector<std::thread> others_;
};

}  // namespace torchreel
