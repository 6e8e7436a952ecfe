// The addon's functions, whose types are in lib/addon/interface.ts. They read arguments and throw errors, and
// know no tensors.
#include <napi.h>

#include <stdexcept>

#include "arguments.h"
#include "core_library.h"
#include "generator_handle.h"
#include "pipeline_handle.h"

namespace {

uint32_t job_argument(const Napi::Value& value) {
  return static_cast<uint32_t>(integer_argument(value, "job"));
}

Napi::Value load(const Napi::CallbackInfo& info) {
  std::vector<std::string> libraries = strings_argument(info[0], "libraries");
  std::string core = string_argument(info[1], "core");
  try {
    return Napi::String::New(info.Env(), open_core(libraries, core).libtorch);
  } catch (const std::runtime_error& error) {
    throw coded_error(info.Env(), "ERR_NATIVE_LOAD", error.what());
  }
}

void leave_at_exit(const Napi::CallbackInfo&) { opened_core().leave_at_exit(); }

void check_device(const Napi::CallbackInfo& info) {
  torchreel_error error{};
  if (opened_core().device_check(string_argument(info[0], "device").c_str(), &error)) {
    throw core_error(info.Env(), error);
  }
}

Napi::Value product_rate(const Napi::CallbackInfo& info) {
  torchreel_error error{};
  double rate = 0;
  if (opened_core().product_rate(string_argument(info[0], "dtype").c_str(), &rate, &error)) {
    throw core_error(info.Env(), error);
  }
  return Napi::Number::New(info.Env(), rate);
}

Napi::Value create_pipeline(const Napi::CallbackInfo& info) {
  return make_handle(info.Env(), std::make_unique<PipelineHandle>(info.Env()));
}

Napi::Value open_pipeline(const Napi::CallbackInfo& info) {
  auto& pipeline = handle_argument<PipelineHandle>(info[0], "pipeline");
  return pipeline.open(info.Env(), job_argument(info[1]), object_argument(info[2], "options"),
                       function_argument(info[3], "listener"));
}

Napi::Value generate(const Napi::CallbackInfo& info) {
  auto& pipeline = handle_argument<PipelineHandle>(info[0], "pipeline");
  return pipeline.generate(info.Env(), job_argument(info[1]), object_argument(info[2], "request"),
                           function_argument(info[3], "listener"));
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  auto& pipeline = handle_argument<PipelineHandle>(info[0], "pipeline");
  return pipeline.encode(info.Env(), job_argument(info[1]), integer_argument(info[2], "prompts"),
                         object_argument(info[3], "text"), function_argument(info[4], "listener"));
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  return handle_argument<PipelineHandle>(info[0], "pipeline").memory(info.Env());
}

Napi::Value adapt(const Napi::CallbackInfo& info) {
  auto& pipeline = handle_argument<PipelineHandle>(info[0], "pipeline");
  return pipeline.adapt(info.Env(), job_argument(info[1]), object_argument(info[2], "textEncoder"),
                        object_argument(info[3], "denoiser"));
}

void cancel(const Napi::CallbackInfo& info) {
  handle_argument<PipelineHandle>(info[0], "pipeline").thread().cancel(info.Env(), job_argument(info[1]));
}

void set_threads(const Napi::CallbackInfo& info) {
  Napi::Object threads = object_argument(info[1], "threads");
  auto integer = [&](const char* name) {
    return static_cast<int32_t>(integer_argument(threads.Get(name), name));
  };
  handle_argument<PipelineHandle>(info[0], "pipeline")
      .thread()
      .set_threads({.threads = integer("threads"),
                    .team = integer("team"),
                    .apart = threads.Get("apart").ToBoolean() ? 1 : 0});
}

Napi::Value close_pipeline(const Napi::CallbackInfo& info) {
  return handle_argument<PipelineHandle>(info[0], "pipeline").thread().close(info.Env(), info[0]);
}

Napi::Value create_generator(const Napi::CallbackInfo& info) {
  auto seed = static_cast<uint64_t>(integer_argument(info[0], "seed"));
  return make_handle(info.Env(), std::make_unique<GeneratorHandle>(info.Env(), seed));
}

Napi::Value randn(const Napi::CallbackInfo& info) {
  auto& generator = handle_argument<GeneratorHandle>(info[0], "generator");
  return generator.randn(info.Env(), integers_argument(info[1], "shape"));
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("load", Napi::Function::New(env, load, "load"));
  exports.Set("leaveAtExit", Napi::Function::New(env, leave_at_exit, "leaveAtExit"));
  exports.Set("productRate", Napi::Function::New(env, product_rate, "productRate"));
  exports.Set("checkDevice", Napi::Function::New(env, check_device, "checkDevice"));
  exports.Set("createPipeline", Napi::Function::New(env, create_pipeline, "createPipeline"));
  exports.Set("openPipeline", Napi::Function::New(env, open_pipeline, "openPipeline"));
  exports.Set("generate", Napi::Function::New(env, generate, "generate"));
  exports.Set("encode", Napi::Function::New(env, encode, "encode"));
  exports.Set("memory", Napi::Function::New(env, memory, "memory"));
  exports.Set("adapt", Napi::Function::New(env, adapt, "adapt"));
  exports.Set("cancel", Napi::Function::New(env, cancel, "cancel"));
  exports.Set("setThreads", Napi::Function::New(env, set_threads, "setThreads"));
  exports.Set("closePipeline", Napi::Function::New(env, close_pipeline, "closePipeline"));
  exports.Set("createGenerator", Napi::Function::New(env, create_generator, "createGenerator"));
  exports.Set("randn", Napi::Function::New(env, randn, "randn"));
  exports.Set("runProgram", Napi::Function::New(env, run_program, "runProgram"));
  return exports;
}

}  // namespace

NODE_API_MODULE(torchreel, initialize)
