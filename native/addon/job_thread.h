// The thread of a pipeline: runs its jobs first in, first out, and reports to JavaScript through a
// thread-safe function. A job runs for minutes; libuv's pool has four threads for everyone's files and name
// look-ups, so it is left alone.
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

// What runs on the job thread and what JavaScript waits for. Created and destroyed on the JavaScript thread.
struct Job {
  explicit Job(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

  std::function<int(Job& job, torchreel_error* error)> work;  // on the job thread: 0, or 1 and an error
  Napi::Promise::Deferred deferred;
  Napi::FunctionReference listener;  // takes what the job reports
  std::function<void(Napi::Env)>
      succeeded;  // on the JavaScript thread, before the promise is resolved; may be empty
  std::atomic<bool> cancelled{false};
  std::atomic<bool> unreported{false};  // memory for a report was refused: the job fails
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
  // Cancels what runs and waits for it: at most one step of a job.
  ~JobThread();

  // JavaScript thread. Rejects with code ABORTED once the thread is closing.
  Napi::Promise post(Napi::Env env, uint32_t id, std::unique_ptr<Job> job);
  // JavaScript thread. A running job stops within a step, a queued one leaves the queue at once.
  void cancel(Napi::Env env, uint32_t id);
  // JavaScript thread. Cancels all jobs; the promise resolves when the thread has ended. `owner`, the value
  // that keeps this object alive, is held until then.
  Napi::Promise close(Napi::Env env, const Napi::Value& owner);

  // Job thread. Hands what `make` gives to the job's listener. Called by the core, which no exception may
  // enter.
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
  Napi::Reference<Napi::Value> owner_;  // while someone waits for close()

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<uint32_t> queue_;                   // guarded by mutex_
  std::unordered_map<uint32_t, Job*> runnable_;  // guarded by mutex_; the job of each id in queue_
  bool closing_ = false;                         // guarded by mutex_
  std::atomic<bool> announce_end_{false};        // someone waits for close()
  std::thread thread_;
};
