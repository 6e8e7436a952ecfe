#include "thread_team.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <new>
#include <system_error>

namespace torchreel {
namespace {

thread_local int64_t own_member = 0;

}  // namespace

struct ThreadTeam::Task {
  int64_t count, size;
  c10::function_ref<void(int64_t, int64_t)> work;
  std::atomic<int64_t> next;
  int64_t helpers = 0;                 // guarded by the team's mutex, as is `error`
  std::exception_ptr error = nullptr;  // of a helper

  // Until there are none. What `work` throws is returned, and nobody gets further pieces.
  std::exception_ptr take_pieces() noexcept {
    try {
      for (int64_t begin; (begin = next.fetch_add(size)) < count;) work(begin, std::min(count, begin + size));
    } catch (...) {
      next = count;
      return std::current_exception();
    }
    return nullptr;
  }
};

ThreadTeam::ThreadTeam(int64_t threads) : wanted_(threads) {
  others_.reserve(static_cast<size_t>(threads - 1));  // no thread runs yet if this throws
  try {
    for (int64_t member = 1; member < threads; ++member)
      others_.emplace_back([=, this] { take_part(member); });
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
}

ThreadTeam::~ThreadTeam() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  begun_.notify_all();
  for (std::thread& other : others_) other.join();
}

int64_t ThreadTeam::member() { return own_member; }

void ThreadTeam::run(int64_t first, int64_t count, int64_t size,
                     c10::function_ref<void(int64_t, int64_t)> work) {
  Task task{.count = count, .size = size, .work = work, .next = first};
  choose_processors();
  {
    std::lock_guard lock(mutex_);
    task_ = &task;
  }
  begun_.notify_all();
  std::exception_ptr error = task.take_pieces();
  std::unique_lock lock(mutex_);
  task_ = nullptr;
  ended_.wait(lock, [&] { return task.helpers == 0; });
  if (error || task.error) std::rethrow_exception(error ? error : task.error);
}

// The kernel often wakes a thread on the processor of the thread that wakes it, and lets that one wait.
void ThreadTeam::choose_processors() {
  int leave = apart_ ? sched_getcpu() : -1;
  if (leave == left_) return;
  left_ = leave;
  cpu_set_t processors;
  if (pthread_getaffinity_np(pthread_self(), sizeof processors, &processors)) return;
  if (leave >= 0 && CPU_COUNT(&processors) > 1) CPU_CLR(leave, &processors);
  for (std::thread& other : others_)
    pthread_setaffinity_np(other.native_handle(), sizeof processors, &processors);
}

void ThreadTeam::take_part(int64_t member) {
  own_member = member;
  std::unique_lock lock(mutex_);
  for (;;) {
    begun_.wait(lock,
                [&] { return closing_ || (task_ && member < task_->count && task_->next < task_->count); });
    if (closing_) return;
    Task& task = *task_;
    ++task.helpers;
    lock.unlock();
    std::exception_ptr error = task.take_pieces();
    lock.lock();
    if (error) task.error = error;
    if (--task.helpers == 0) ended_.notify_one();
  }
}

}  // namespace torchreel
