// The thread of a pipeline. It runs jobs in the order in which they were posted and reports to JavaScript
// through a thread-safe function. It is not one of libuv's pool: those are four threads for all files and
// name look-ups of the process, and a job runs for minutes.
#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "torchreel_core.h"

// The work of the job thread and the promise of it. Created and destroyed on the JavaScript thread.
struct Job {
  explicit Job(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

  std::function<int(Job& job, torchreel_error* error)> work;  // on the job thread: 0, or 1 and an error
  Napi::Promise::Deferred deferred;
  Napi::FunctionReference listener;  // gets the reports
  std::function<void(Napi::Env)>
      succeeded;  // on the JavaScript thread, before the promise is resolved; may be empty
  std::atomic<bool> cancelled{false};
  std::atomic<bool> unreported{false};  // there was no memory for a report: the job fails
};

class JobThread {
 public:
  // A report is made into a JavaScript value on the JavaScript thread.
  using Report = std::function<Napi::Value(Napi::Env)>;

  // Starts the thread. `finish` runs on it after the last job, `ended` on the JavaScript thread before
  // close() resolves.
  JobThread(Napi::Env env, std::function<void()> finish, std::function<void()> ended);
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;
  // Cancels the running job and waits for it: at most one of its steps.
  ~JobThread();

  // JavaScript thread. Rejects with code ABORTED once the thread is closing.
  Napi::Promise post(Napi::Env env, uint32_t id, std::unique_ptr<Job> job);
  // JavaScript thread. A running job stops within a step, a queued one leaves the queue at once.
  void cancel(Napi::Env env, uint32_t id);
  // JavaScript thread. Cancels all jobs. The promise resolves when the thread has ended; until then `owner`,
  // which keeps this object alive, is referenced.
  Napi::Promise close(Napi::Env env, const Napi::Value& owner);

  // JavaScript thread. The threads of an operation on the CPU, from the next step on.
  void set_threads(torchreel_threads threads);
  // Job thread; zeros: never set.
  torchreel_threads threads();

  // Job thread. Gives the job's listener the report that `make` returns. The core calls this, so it must not
  // throw.
  void report(Job& job, const std::function<Report()>& make) noexcept;

 private:
  struct Message;
  static void deliver(Napi::Env env, Napi::Function, JobThread* thread, Message* message);
  using Events = Napi::TypedThreadSafeFunction<JobThread, Message, deliver>;

  static void on_environment_end(void* thread);
  void run();
  void send(std::unique_ptr<Message> message);
  void settled(Napi::Env env, uint32_t id, const torchreel_error* error);
  void stop();

  napi_env env_;
  std::function<void()> finish_, ended_;
  Events events_;

  // JavaScript thread only
  std::unordered_map<uint32_t, std::unique_ptr<Job>> jobs_;  // queued or running
  std::unique_ptr<Napi::Promise::Deferred> closed_;
  Napi::Reference<Napi::Value> owner_;  // until close() is done

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<uint32_t> queue_;                   // guarded by mutex_
  std::unordered_map<uint32_t, Job*> runnable_;  // guarded by mutex_; the job of each id in queue_
  bool closing_ = false;                         // guarded by mutex_
  torchreel_threads threads_{};                  // guarded by mutex_
  std::atomic<bool> announce_end_{false};        // close() was called
  std::thread thread_;
};
