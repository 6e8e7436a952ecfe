// A pipeline as an object of JavaScript: the core's pipeline and the thread of its jobs.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

#include "job_thread.h"
#include "torchreel_core.h"

class PipelineHandle {
 public:
  static const napi_type_tag type_tag;

  explicit PipelineHandle(Napi::Env env);

  // Jobs; their promises reject with an Error that has the core's code.
  Napi::Promise open(Napi::Env env, uint32_t id, const Napi::Object& options);
  Napi::Promise generate(Napi::Env env, uint32_t id, const Napi::Object& request,
                         const Napi::Function& listener);

  // Reports { type: 'embeddings', data, shape: (P, L, D) }.
  Napi::Promise encode(Napi::Env env, uint32_t id, int64_t prompts, const Napi::Object& text,
                       const Napi::Function& listener);

  // { textEncoder, denoiser, vae, allocated, reserved, external }, at any time.
  Napi::Value memory(Napi::Env env);
  // Replaces the changes that adapters make, for the jobs that follow.
  Napi::Promise adapt(Napi::Env env, uint32_t id, const Napi::Object& text_encoder,
                      const Napi::Object& denoiser);

  ~PipelineHandle();

  JobThread& thread() { return thread_; }

 private:
  // Tells V8's garbage collector how many bytes this object has outside of its heap.
  void report_external_memory(int64_t bytes);

  bool is_open(torchreel_error* error) const;  // job thread

  Napi::Env env_;
  int64_t external_memory_ = 0;  // bytes that V8 was told of
  const torchreel_core& core_;
  torchreel_pipeline* pipeline_ = nullptr;  // set and used by the job thread, read by `memory`
  std::mutex mutex_;                        // guards `pipeline_` between the two
  JobThread thread_;                        // last, so that it ends before the members that its jobs use
};
