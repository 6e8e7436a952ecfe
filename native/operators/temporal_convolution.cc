#include <ATen/ops/conv2d.h>

#include "operators.h"
#include "packed_convolution.h"
#include "packed_weight.h"
#include "winograd.h"

namespace torchreel {
namespace {

// The 16 kernels at g, (16, C, 3), become 16 of the O columns of u (6 positions, C, O).
TORCHREEL_CLONED void transform_3(const float* g, const int64_t* strides, int64_t channels, float* u,
                                  int64_t step, int64_t outputs) {
  for (int64_t channel = 0; channel < channels; ++channel) {
    float taps[3][lanes];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t tap = 0; tap < 3; ++tap) {
        taps[tap][lane] = g[lane * strides[0] + channel * strides[1] + tap * strides[2]];
      }
    }
    Floats before, at, after;
    std::memcpy(&before, taps[0], sizeof before);
    std::memcpy(&at, taps[1], sizeof at);
    std::memcpy(&after, taps[2], sizeof after);
    Floats even = before + after, wide = before + after * 4.0f;
    float* to = u + channel * outputs;
    *reinterpret_cast<Floats*>(to) = before * (1.0f / 4);
    *reinterpret_cast<Floats*>(to + step) = (even + at) * (-1.0f / 6);
    *reinterpret_cast<Floats*>(to + 2 * step) = (even - at) * (-1.0f / 6);
    *reinterpret_cast<Floats*>(to + 3 * step) = (wide + at * 2.0f) * (1.0f / 24);
    *reinterpret_cast<Floats*>(to + 4 * step) = (wide - at * 2.0f) * (1.0f / 24);
    *reinterpret_cast<Floats*>(to + 5 * step) = after;
  }
}

TORCHREEL_CLONED void transform_6(const float* const* pixels, int64_t channels, float* v, int64_t step) {
  for (int64_t i = 0; i < channels; i += lanes) {
    Floats d[6];
    for (int64_t p = 0; p < 6; ++p)
      d[p] = pixels[p] ? *reinterpret_cast<const Floats*>(pixels[p] + i) : Floats{};
    Floats outer = d[4] - d[2] * 4.0f, inner = d[3] - d[1] * 4.0f, near = d[4] - d[2],
           apart = (d[3] - d[1]) * 2.0f;
    float* to = v + i;
    *reinterpret_cast<Floats*>(to) = d[0] * 4.0f - d[2] * 5.0f + d[4];
    *reinterpret_cast<Floats*>(to + step) = outer + inner;
    *reinterpret_cast<Floats*>(to + 2 * step) = outer - inner;
    *reinterpret_cast<Floats*>(to + 3 * step) = near + apart;
    *reinterpret_cast<Floats*>(to + 4 * step) = near - apart;
    *reinterpret_cast<Floats*>(to + 5 * step) = d[1] * 4.0f - d[3] * 5.0f + d[5];
  }
}

TORCHREEL_CLONED void transform_4(const float* m, int64_t step, int64_t outputs, const float* bias,
                                  float* const* pixels) {
  for (int64_t i = 0; i < outputs; i += lanes) {
    Floats p[6];
    for (int64_t at = 0; at < 6; ++at) p[at] = *reinterpret_cast<const Floats*>(m + at * step + i);
    Floats sum = p[1] + p[2], difference = p[1] - p[2], wide = p[3] + p[4], apart = p[3] - p[4];
    Floats base = *reinterpret_cast<const Floats*>(bias + i);
    if (pixels[0]) *reinterpret_cast<Floats*>(pixels[0] + i) = p[0] + sum + wide + base;
    if (pixels[1]) *reinterpret_cast<Floats*>(pixels[1] + i) = difference + apart * 2.0f + base;
    if (pixels[2]) *reinterpret_cast<Floats*>(pixels[2] + i) = sum + wide * 4.0f + base;
    if (pixels[3]) *reinterpret_cast<Floats*>(pixels[3] + i) = difference + apart * 8.0f + p[5] + base;
  }
}

// F(4, 3), with the points 0, ±1, ±2 and ∞: the results of four frames from 6 products, where the
// definition needs 12.
class FilterOverFrames {
 public:
  static constexpr int64_t positions = 6, results = 4;

  FilterOverFrames(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y)
      : from_(x.const_data_ptr<float>()),
        to_(y.mutable_data_ptr<float>()),
        strides_(weight.strides()),
        frames_(x.size(1)),
        pixels_(x.size(2)),
        channels_(x.size(3)),
        outputs_(y.size(3)) {}

  static int64_t tiles(const at::Tensor& x) { return x.size(0) * ((x.size(1) + 3) / 4) * x.size(2); }

  static bool skips(int64_t) { return false; }

  void sources(int64_t tile, const float** pixels) const {
    auto [video, first, pixel] = place(tile);
    for (int64_t p = 0; p < positions; ++p) {
      int64_t frame = first + p - 1;
      bool inside = frame >= 0 && frame < frames_;
      pixels[p] = inside ? from_ + ((video * frames_ + frame) * pixels_ + pixel) * channels_ : nullptr;
    }
  }

  void targets(int64_t tile, float** pixels) const {
    auto [video, first, pixel] = place(tile);
    for (int64_t p = 0; p < results; ++p) {
      int64_t frame = first + p;
      pixels[p] = frame < frames_ ? to_ + ((video * frames_ + frame) * pixels_ + pixel) * outputs_ : nullptr;
    }
  }

  void transform_kernels(const float* g, int64_t channels, float* u, int64_t step, int64_t outputs) const {
    transform_3(g, strides_.data(), channels, u, step, outputs);
  }
  static void transform_inputs(const float* const* pixels, int64_t channels, float* v, int64_t step) {
    transform_6(pixels, channels, v, step);
  }
  static void transform_outputs(const float* m, int64_t step, int64_t outputs, const float* bias,
                                float* const* pixels) {
    transform_4(m, step, outputs, bias, pixels);
  }

 private:
  struct Place {
    int64_t video, first, pixel;
  };
  Place place(int64_t tile) const {
    int64_t parts = (frames_ + 3) / 4;
    return {tile / (parts * pixels_), tile / pixels_ % parts * 4, tile % pixels_};
  }

  const float* from_;
  float* to_;
  at::IntArrayRef strides_;
  int64_t frames_, pixels_, channels_, outputs_;
};

void check_frames(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias) {
  TORCH_CHECK(given.dim() == 4 && given.scalar_type() == at::kFloat,
              "convolve_frames takes float32 (B, F, P, C)");
  TORCH_CHECK(weight.dim() == 5 && weight.scalar_type() == at::kFloat && weight.size(1) == given.size(3) &&
                  weight.size(2) == 3 && weight.size(3) == 1 && weight.size(4) == 1,
              "convolve_frames takes a float32 weight (O, C, 3, 1, 1)");
  TORCH_CHECK(bias.is_contiguous() && bias.scalar_type() == at::kFloat && bias.numel() == weight.size(0),
              "convolve_frames takes a float32 bias (O)");
}

}  // namespace

at::Tensor convolve_frames(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias) {
  if (is_packed(weight)) return convolve_frames_packed(given, weight, bias);
  bool float32 = given.scalar_type() == at::kFloat;
  if (float32) check_frames(given, weight, bias);
  if (!float32 || !winograd_pays(FilterOverFrames::tiles(given), weight)) {
    at::Tensor y = at::conv2d(given.permute({0, 3, 1, 2}), weight.squeeze(4), bias, {1, 1}, {1, 0});
    return y.permute({0, 2, 3, 1}).contiguous();
  }
  at::Tensor x = given.contiguous(),
             y = at::empty({x.size(0), x.size(1), x.size(2), weight.size(0)}, x.options());
  winograd(FilterOverFrames(x, weight, y), FilterOverFrames::tiles(x), weight, bias);
  return y;
}

void add_convolve_frames(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias) {
  TORCH_CHECK(sum.is_contiguous() && sum.scalar_type() == x.scalar_type() && x.dim() == 4 &&
                  sum.sizes() == at::IntArrayRef({x.size(0), x.size(1), x.size(2), bias.numel()}),
              "add_convolve_frames takes a contiguous sum (B, F, P, O) of the same dtype");
  if (is_packed(weight))
    convolve_frames_packed(x, weight, bias, sum);
  else
    sum.add_(convolve_frames(x, weight, bias));
}

}  // namespace torchreel
