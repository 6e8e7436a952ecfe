// The reports of a job: the core calls these on the job thread, and JavaScript gets objects.
#pragma once

#include <napi.h>

#include "job_thread.h"
#include "torchreel_core.h"

class Reporter {
 public:
  Reporter(JobThread& thread, Job& job) : thread_(thread), job_(job) {}

  // Valid for as long as this object.
  torchreel_listener listener();

  // { type: 'embeddings', data, shape }; `context` is a Reporter.
  static void embeddings(void* context, const float* data, const int64_t shape[3]);
  static int cancelled(void* context);

 private:
  static void progress(void* context, int stage, int64_t step, int64_t steps);
  static void latents(void* context, int64_t step, int64_t steps, const float* data, const int64_t shape[5]);
  static void frames(void* context, int64_t first, int64_t count, int64_t height, int64_t width,
                     const uint8_t* data);
  static void warning(void* context, const char* message);
  static torchreel_threads threads(void* context);

  static Reporter& of(void* context) { return *static_cast<Reporter*>(context); }
  // Calls `make` now: it copies the core's data and returns what makes the object on the JavaScript thread.
  template <typename Make>
  static void report(void* context, Make&& make) noexcept;

  JobThread& thread_;
  Job& job_;
};
