// The C ABI over the engine. Every function here only converts types and guards the call.
#include "torchreel_core.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "denoising/noise.h"
#include "denoising/program.h"
#include "denoising/program_on_frames.h"
#include "pipeline.h"
#include "process/cpu_memory.h"
#include "process/devices.h"
#include "process/error.h"
#include "process/exit.h"
#include "process/fault_order.h"
#include "process/faults.h"
#include "process/lost_devices.h"
#include "process/product_rate.h"
#include "process/threads.h"

struct torchreel_pipeline {
  explicit torchreel_pipeline(const torchreel_pipeline_options& options)
      : device(options.device), pipeline(options) {}
  std::string device;
  torchreel::Pipeline pipeline;
};

struct torchreel_generator {
  at::Generator generator;
};

namespace torchreel {
namespace {

int device_check(const char* device, torchreel_error* error) {
  return guarded(error, [&] { device_named(device); });
}

// A call that computes on a device.
template <typename Work>
int on_device(const std::string& device, torchreel_error* error, Work&& work) {
  int failed = guarded(error, [&] {
    refuse_lost_device(device);
    c10::InferenceMode inference;
    BusyScope busy;
    work();
  });
  if (failed && std::strcmp(error->code, "ERR_DEVICE_LOST") == 0) mark_device_lost(device);
  return failed;
}

int pipeline_open(const torchreel_pipeline_options* options, torchreel_pipeline** pipeline,
                  torchreel_error* error) {
  return on_device(options->device, error, [&] {
    PooledMemory pooled;
    faults::watch_allocations();
    faults::arm();
    set_threads(options->threads);
    *pipeline = std::make_unique<torchreel_pipeline>(*options).release();
  });
}

int product_rate(const char* dtype, double* rate, torchreel_error* error) {
  return guarded(error, [&] { *rate = measure_product_rate(dtype_named(dtype)); });
}

// `work` gets the pipeline.
template <typename Work>
int on_pipeline(torchreel_pipeline* pipeline, torchreel_error* error, Work&& work) {
  return on_device(pipeline->device, error, [&] {
    PooledMemory pooled;
    faults::arm();
    work(pipeline->pipeline);
  });
}

int pipeline_generate(torchreel_pipeline* pipeline, const torchreel_request* request,
                      const torchreel_listener* listener, torchreel_error* error) {
  return on_pipeline(pipeline, error, [&](Pipeline& one) { one.generate(*request, *listener); });
}

int pipeline_encode(torchreel_pipeline* pipeline, int64_t prompts, const torchreel_text* text, void* context,
                    int (*cancelled)(void* context),
                    void (*embeddings)(void* context, const float* data, const int64_t shape[3]),
                    torchreel_error* error) {
  auto check = [&] {
    if (cancelled(context)) throw Error("ABORTED", "the call was cancelled");
  };
  return on_pipeline(pipeline, error, [&](Pipeline& one) {
    at::Tensor host = one.encode(prompts, *text, check).to(at::kCPU, at::kFloat).contiguous();
    embeddings(context, host.const_data_ptr<float>(), host.sizes().data());
  });
}

int pipeline_adapt(torchreel_pipeline* pipeline, const torchreel_adaptation* text_encoder,
                   const torchreel_adaptation* denoiser, torchreel_error* error) {
  return on_pipeline(pipeline, error, [&](Pipeline& one) { one.adapt(*text_encoder, *denoiser); });
}

int pipeline_memory(const torchreel_pipeline* pipeline, torchreel_memory* memory, torchreel_error* error) {
  return guarded(error, [&] { *memory = pipeline->pipeline.memory(); });
}

void pipeline_close(torchreel_pipeline* pipeline) {
  torchreel_error ignored;
  guarded(&ignored, [&] {
    BusyScope busy;
    PooledMemory pooled;  // so that the pool frees its memory once, and not after each weight
    std::unique_ptr<torchreel_pipeline>{pipeline}.reset();
  });
}

int generator_new(uint64_t seed, torchreel_generator** generator, torchreel_error* error) {
  return guarded(error, [&] {
    *generator = std::make_unique<torchreel_generator>(torchreel_generator{cpu_generator(seed)}).release();
  });
}

int generator_randn(torchreel_generator* generator, const int64_t* shape, size_t rank, float* out,
                    torchreel_error* error) {
  return guarded(error, [&] {
    at::Tensor numbers = at::randn({shape, rank}, generator->generator, at::TensorOptions(at::kFloat));
    std::memcpy(out, numbers.const_data_ptr<float>(), numbers.nbytes());
  });
}

void generator_free(torchreel_generator* generator) {
  std::unique_ptr<torchreel_generator>{generator}.reset();
}

int run_program(const double* code, size_t code_length, const float* sample, const int64_t shape[4],
                torchreel_model model, void* context, torchreel_generator* generator, float* samples,
                int64_t calls, torchreel_error* error) {
  return guarded(error, [&] {
    c10::InferenceMode inference;
    Program program({code, code_length});
    if (program.calls() > calls)
      throw invalid_argument("the program has more than " + std::to_string(calls) + " calls");
    at::IntArrayRef sizes(shape, 4);
    std::function<at::Tensor()> noise;
    if (generator)
      noise = [&] { return at::randn(sizes, generator->generator, at::TensorOptions(at::kFloat)); };
    at::Tensor start = at::from_blob(const_cast<float*>(sample), sizes, at::kFloat);
    run_on_frames(program, start, model, context, noise, samples);
  });
}

constexpr torchreel_core table{
    .abi = TORCHREEL_CORE_ABI,
    .libtorch = TORCHREEL_LIBTORCH_MINOR,
    .leave_at_exit = leave_at_exit,
    .device_check = device_check,
    .product_rate = product_rate,
    .pipeline_open = pipeline_open,
    .pipeline_generate = pipeline_generate,
    .pipeline_encode = pipeline_encode,
    .pipeline_memory = pipeline_memory,
    .pipeline_adapt = pipeline_adapt,
    .pipeline_close = pipeline_close,
    .generator_new = generator_new,
    .generator_randn = generator_randn,
    .generator_free = generator_free,
    .run_program = run_program,
};

}  // namespace
}  // namespace torchreel

extern "C" __attribute__((visibility("default"))) const torchreel_core* torchreel_core_table(void) {
  return &torchreel::table;
}
