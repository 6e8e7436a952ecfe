// libtorch's CPU generator as an object of JavaScript, and denoising programs with a JavaScript function as
// the network.
#pragma once

#include <napi.h>

#include "torchreel_core.h"

class GeneratorHandle {
 public:
  static const napi_type_tag type_tag;

  GeneratorHandle(Napi::Env env, uint64_t seed);
  GeneratorHandle(const GeneratorHandle&) = delete;
  GeneratorHandle& operator=(const GeneratorHandle&) = delete;
  ~GeneratorHandle();

  Napi::Value randn(Napi::Env env, const std::vector<int64_t>& shape);
  torchreel_generator* get() { return generator_; }

 private:
  const torchreel_core& core_;
  torchreel_generator* generator_ = nullptr;
};

// runProgram(code, sample, shape, model(input, timestep, call), generator | undefined, calls) → Float32Array
// of all samples. Runs on the JavaScript thread.
Napi::Value run_program(const Napi::CallbackInfo& info);
