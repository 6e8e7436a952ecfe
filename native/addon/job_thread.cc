#include "job_thread.h"

#include <new>
#include <utility>
#include <vector>

#include "arguments.h"
#include "process/fault_order.h"

namespace {

constexpr torchreel_error unreported{"ERR_OUT_OF_MEMORY", "memory for a result of the job was refused", "",
                                     0};
constexpr torchreel_error aborted{"ABORTED", "the job was cancelled", "", 0};

}  // namespace

// From the job thread to the JavaScript thread.
struct JobThread::Message {
  enum class Kind { report, settled, ended } kind;
  uint32_t id = 0;
  Job* job = nullptr;
  Report report;
  bool failed = false;
  torchreel_error error{};
};

JobThread::JobThread(Napi::Env env, std::function<void()> finish, std::function<void()> ended)
    : env_(env), finish_(std::move(finish)), ended_(std::move(ended)) {
  events_ = Events::New(env, "torchreel job", /*maxQueueSize=*/0, /*initialThreadCount=*/1, this);
  events_.Unref(env);  // an idle pipeline does not keep the process alive
  try {
    thread_ = std::thread([this] { run(); });
  } catch (...) {
    events_.Release();
    throw;
  }
  // Environment hooks run last in, first out: this one before the thread-safe function's own.
  napi_add_env_cleanup_hook(env_, on_environment_end, this);
}

JobThread::~JobThread() {
  napi_remove_env_cleanup_hook(env_, on_environment_end, this);
  stop();
}

void JobThread::on_environment_end(void* thread) { static_cast<JobThread*>(thread)->stop(); }

void JobThread::stop() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    queue_.clear();
  }
  for (auto& [id, job] : jobs_) job->cancelled = true;
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Napi::Promise JobThread::post(Napi::Env env, uint32_t id, std::unique_ptr<Job> job) {
  Napi::Promise promise = job->deferred.Promise();
  {
    std::lock_guard lock(mutex_);
    if (closing_) {
      job->deferred.Reject(core_error(env, aborted).Value());
      return promise;
    }
    queue_.push_back(id);
    runnable_[id] = job.get();
  }
  jobs_[id] = std::move(job);
  events_.Ref(env);
  wake_.notify_one();
  return promise;
}

void JobThread::cancel(Napi::Env env, uint32_t id) {
  auto job = jobs_.find(id);
  if (job == jobs_.end()) return;
  job->second->cancelled = true;
  bool queued;
  {
    std::lock_guard lock(mutex_);
    queued = std::erase(queue_, id) > 0;
    if (queued) runnable_.erase(id);
  }
  if (queued) settled(env, id, &aborted);
}

Napi::Promise JobThread::close(Napi::Env env, const Napi::Value& owner) {
  if (!closed_) {
    owner_ = Napi::Persistent(owner);
    closed_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    std::vector<uint32_t> ids;
    for (auto& [id, job] : jobs_) ids.push_back(id);
    for (uint32_t id : ids) cancel(env, id);
    events_.Ref(env);
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
      announce_end_ = true;
    }
    wake_.notify_all();
  }
  return closed_->Promise();
}

void JobThread::set_threads(torchreel_threads threads) {
  std::lock_guard lock(mutex_);
  threads_ = threads;
}

torchreel_threads JobThread::threads() {
  std::lock_guard lock(mutex_);
  return threads_;
}

void JobThread::report(Job& job, const std::function<Report()>& make) noexcept {
  try {
    if (torchreel::faults::due("report")) throw std::bad_alloc();
    auto message = std::make_unique<Message>();
    message->kind = Message::Kind::report;
    message->job = &job;
    message->report = make();
    send(std::move(message));
  } catch (const std::bad_alloc&) {
    job.unreported = job.cancelled = true;
  }
}

void JobThread::run() {
  while (true) {
    uint32_t id;
    Job* job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) break;
      id = queue_.front();
      queue_.pop_front();
      job = runnable_.at(id);
      runnable_.erase(id);
    }
    auto message = std::make_unique<Message>();
    message->kind = Message::Kind::settled;
    message->id = id;
    message->error = aborted;
    message->failed = job->cancelled || job->work(*job, &message->error) != 0;
    send(std::move(message));
  }
  finish_();
  if (announce_end_) {
    auto message = std::make_unique<Message>();
    message->kind = Message::Kind::ended;
    send(std::move(message));
  }
  events_.Release();
}

void JobThread::send(std::unique_ptr<Message> message) {
  // The call is refused while the environment is ending; the message is then freed here.
  if (events_.NonBlockingCall(message.get()) == napi_ok) message.release();
}

void JobThread::settled(Napi::Env env, uint32_t id, const torchreel_error* error) {
  auto job = std::move(jobs_.at(id));
  jobs_.erase(id);
  if (jobs_.empty() && !closed_) events_.Unref(env);
  if (job->unreported) error = &unreported;
  if (!error && job->succeeded) job->succeeded(env);
  if (error) {
    job->deferred.Reject(core_error(env, *error).Value());
  } else {
    job->deferred.Resolve(env.Undefined());
  }
}

void JobThread::deliver(Napi::Env env, Napi::Function, JobThread* thread, Message* raw) {
  std::unique_ptr<Message> message(raw);
  if (static_cast<napi_env>(env) == nullptr) return;  // the environment is gone
  switch (message->kind) {
    case Message::Kind::report:
      // A result that JavaScript has no memory for must not go missing silently.
      try {
        if (torchreel::faults::due("delivery")) throw Napi::Error::New(env, "an ordered failure");
        if (!message->job->unreported) message->job->listener.Call({message->report(env)});
      } catch (const Napi::Error&) {
        message->job->unreported = message->job->cancelled = true;
      }
      break;
    case Message::Kind::settled:
      thread->settled(env, message->id, message->failed ? &message->error : nullptr);
      break;
    case Message::Kind::ended:
      if (thread->thread_.joinable()) thread->thread_.join();
      if (thread->ended_) thread->ended_();
      if (thread->closed_) thread->closed_->Resolve(env.Undefined());
      thread->owner_.Reset();
      break;
  }
}
