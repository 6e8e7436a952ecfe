#include "reports.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace {

// Numbers with a shape, as { data: Float32Array, shape }.
struct Numbers {
  Numbers(const float* data, std::vector<int64_t> sizes) : shape(std::move(sizes)) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    values.assign(data, data + count);
  }

  Napi::Object to_object(Napi::Env env) const {
    auto array = Napi::Float32Array::New(env, values.size());
    std::copy(values.begin(), values.end(), array.Data());
    auto sizes = Napi::Array::New(env, shape.size());
    for (uint32_t i = 0; i < shape.size(); ++i) sizes.Set(i, static_cast<double>(shape[i]));
    Napi::Object object = Napi::Object::New(env);
    object.Set("data", array);
    object.Set("shape", sizes);
    return object;
  }

  std::vector<int64_t> shape;
  std::vector<float> values;
};

}  // namespace

torchreel_listener Reporter::listener() {
  return {.context = this,
          .cancelled = cancelled,
          .progress = progress,
          .latents = latents,
          .frames = frames,
          .warning = warning,
          .threads = threads};
}

int Reporter::cancelled(void* context) { return of(context).job_.cancelled; }

torchreel_threads Reporter::threads(void* context) { return of(context).thread_.threads(); }

template <typename Make>
void Reporter::report(void* context, Make&& make) noexcept {
  of(context).thread_.report(of(context).job_, make);
}

void Reporter::progress(void* context, int stage, int64_t step, int64_t steps) {
  static constexpr const char* names[] = {"encode", "denoise", "decode"};
  report(context, [=] {
    return [=](Napi::Env env) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "progress");
      event.Set("stage", names[stage]);
      event.Set("step", static_cast<double>(step));
      event.Set("steps", static_cast<double>(steps));
      return event;
    };
  });
}

void Reporter::latents(void* context, int64_t step, int64_t steps, const float* data,
                       const int64_t shape[5]) {
  report(context, [=] {
    return [=, numbers = Numbers(data, {shape, shape + 5})](Napi::Env env) {
      Napi::Object event = numbers.to_object(env);
      event.Set("type", "latents");
      event.Set("step", static_cast<double>(step));
      event.Set("steps", static_cast<double>(steps));
      return event;
    };
  });
}

void Reporter::embeddings(void* context, const float* data, const int64_t shape[3]) {
  report(context, [=] {
    return [=, numbers = Numbers(data, {shape, shape + 3})](Napi::Env env) {
      Napi::Object event = numbers.to_object(env);
      event.Set("type", "embeddings");
      return event;
    };
  });
}

void Reporter::frames(void* context, int64_t first, int64_t count, int64_t height, int64_t width,
                      const uint8_t* data) {
  report(context, [=] {
    std::vector<uint8_t> pixels(data, data + count * height * width * 3);
    return [=, pixels = std::move(pixels)](Napi::Env env) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "frames");
      event.Set("first", static_cast<double>(first));
      event.Set("count", static_cast<double>(count));
      event.Set("height", static_cast<double>(height));
      event.Set("width", static_cast<double>(width));
      event.Set("data", Napi::Buffer<uint8_t>::Copy(env, pixels.data(), pixels.size()));
      return event;
    };
  });
}

void Reporter::warning(void* context, const char* message) {
  report(context, [=] {
    return [text = std::string(message)](Napi::Env env) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "warning");
      event.Set("message", text);
      return event;
    };
  });
}
