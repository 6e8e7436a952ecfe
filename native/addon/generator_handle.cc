#include "generator_handle.h"

#include <algorithm>
#include <optional>

#include "arguments.h"
#include "core_library.h"

const napi_type_tag GeneratorHandle::type_tag{0x6c2e85f01b7d43a9, reinterpret_cast<uintptr_t>(&type_tag)};

GeneratorHandle::GeneratorHandle(Napi::Env env, uint64_t seed) : core_(opened_core()) {
  torchreel_error error{};
  if (core_.generator_new(seed, &generator_, &error)) throw core_error(env, error);
}

GeneratorHandle::~GeneratorHandle() { core_.generator_free(generator_); }

Napi::Value GeneratorHandle::randn(Napi::Env env, const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, static_cast<size_t>(size), &count) ||
        count > (size_t{1} << 28)) {
      throw coded_error(env, "ERR_INVALID_ARGUMENT", "shape must have at most 2^28 elements");
    }
  }
  auto numbers = Napi::Float32Array::New(env, count);
  torchreel_error error{};
  if (core_.generator_randn(generator_, shape.data(), shape.size(), numbers.Data(), &error)) {
    throw core_error(env, error);
  }
  return numbers;
}

namespace {

// The network of a program, in JavaScript.
struct Model {
  Napi::Env env;
  Napi::Function function;
  size_t count;  // numbers in a sample
  std::optional<Napi::Error> thrown;

  static int call(void* context, const float* input, double timestep, int64_t call, float* output) {
    Model& model = *static_cast<Model*>(context);
    Napi::Env env = model.env;
    try {
      auto array = Napi::Float32Array::New(env, model.count);
      std::copy(input, input + model.count, array.Data());
      Napi::Value result = model.function.Call(
          {array, Napi::Number::New(env, timestep), Napi::Number::New(env, static_cast<double>(call))});
      std::vector<float> numbers = float32_argument(result, "the model's output");
      if (numbers.size() != model.count) {
        throw coded_error(env, "ERR_INVALID_ARGUMENT", "the model's output must have the size of the sample");
      }
      std::copy(numbers.begin(), numbers.end(), output);
      return 0;
    } catch (const Napi::Error& error) {
      model.thrown = error;
      return 1;
    }
  }
};

}  // namespace

Napi::Value run_program(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<double> code = float64_argument(info[0], "code");
  std::vector<float> sample = float32_argument(info[1], "sample");
  std::vector<int64_t> shape = integers_argument(info[2], "shape");
  Model model{env, function_argument(info[3], "model"), sample.size(), {}};
  torchreel_generator* generator =
      info[4].IsUndefined() ? nullptr : handle_argument<GeneratorHandle>(info[4], "generator").get();
  int64_t calls = integer_argument(info[5], "calls");

  bool fits = shape.size() == 4 && std::ranges::all_of(shape, [](int64_t size) { return size > 0; });
  if (calls < 1 || !fits ||
      shape[0] * shape[1] * shape[2] * shape[3] != static_cast<int64_t>(sample.size())) {
    throw coded_error(env, "ERR_INVALID_ARGUMENT", "shape must be the sample's (N, C, h, w)");
  }
  auto samples = Napi::Float32Array::New(env, sample.size() * static_cast<size_t>(calls));
  torchreel_error error{};
  int failed = opened_core().run_program(code.data(), code.size(), sample.data(), shape.data(), Model::call,
                                         &model, generator, samples.Data(), calls, &error);
  if (model.thrown) throw *model.thrown;
  if (failed) throw core_error(env, error);
  return samples;
}
