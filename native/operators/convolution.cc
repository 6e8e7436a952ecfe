#include <ATen/ops/conv2d.h>

#include "operators.h"
#include "packed_convolution.h"
#include "packed_weight.h"
#include "tiles_3x3.h"
#include "winograd.h"

namespace torchreel {
namespace {

// The 16 kernels at g, (16, C, 3, 3), become 16 of the O columns of u (16 positions, C, O).
TORCHREEL_CLONED void transform_3x3(const float* g, const int64_t* strides, int64_t channels, float* u,
                                    int64_t step, int64_t outputs) {
  for (int64_t channel = 0; channel < channels; ++channel) {
    Floats taps[9], transformed[4][4];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const float* kernel = g + lane * strides[0] + channel * strides[1];
      for (int64_t tap = 0; tap < 9; ++tap) {
        taps[tap][lane] = kernel[tap / 3 * strides[2] + tap % 3 * strides[3]];
      }
    }
    transform_taps(taps, transformed);
    for (int64_t p = 0; p < 16; ++p) store(u + p * step + channel * outputs, transformed[p / 4][p % 4]);
  }
}

TORCHREEL_CLONED void transform_4x4(const float* const* pixels, int64_t channels, float* v, int64_t step) {
  transform_tile(pixels, channels, v, step);
}

TORCHREEL_CLONED void transform_products(const float* m, int64_t step, int64_t outputs, const float* bias,
                                         float* const* pixels) {
  transform_results<false>(m, step, outputs, bias, pixels);
}

TORCHREEL_CLONED void transform_products_of_doubled(const float* m, int64_t step, int64_t outputs,
                                                    const float* bias, float* const* pixels) {
  transform_results<true>(m, step, outputs, bias, pixels);
}

class Filter3x3 : public Tiles3x3<float> {
 public:
  Filter3x3(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y, bool doubled)
      : Tiles3x3(x, y, doubled), strides_(weight.strides()) {}

  void transform_kernels(const float* g, int64_t channels, float* u, int64_t step, int64_t outputs) const {
    transform_3x3(g, strides_.data(), channels, u, step, outputs);
  }
  static void transform_inputs(const float* const* pixels, int64_t channels, float* v, int64_t step) {
    transform_4x4(pixels, channels, v, step);
  }
  void transform_outputs(const float* m, int64_t step, int64_t outputs, const float* bias,
                         float* const* pixels) const {
    (whole() ? transform_products_of_doubled : transform_products)(m, step, outputs, bias, pixels);
  }

 private:
  at::IntArrayRef strides_;
};

at::Tensor plain_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor y = at::conv2d(x.permute({0, 3, 1, 2}), weight, bias, {1, 1}, {1, 1});
  return y.permute({0, 2, 3, 1}).contiguous();
}

// libtorch's convolutions compute in bfloat16 with weights as they come.
bool is_float32(const at::Tensor& x) { return x.scalar_type() == at::kFloat; }

void check_3x3(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  TORCH_CHECK(x.dim() == 4 && x.scalar_type() == at::kFloat, "a convolution takes float32 (N, H, W, C)");
  TORCH_CHECK(weight.dim() == 4 && weight.scalar_type() == at::kFloat && weight.size(1) == x.size(3) &&
                  weight.size(2) == 3 && weight.size(3) == 3,
              "a 3 × 3 convolution takes a float32 weight (O, C, 3, 3)");
  TORCH_CHECK(bias.is_contiguous() && bias.scalar_type() == at::kFloat && bias.numel() == weight.size(0),
              "a convolution takes a float32 bias (O)");
}

at::Tensor filtered(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias, int64_t height,
                    int64_t width, bool doubled) {
  at::Tensor x = given.contiguous(), y = at::empty({x.size(0), height, width, weight.size(0)}, x.options());
  winograd(Filter3x3(x, weight, y, doubled), Filter3x3::tiles(x.size(0), height, width), weight, bias);
  return y;
}

}  // namespace

at::Tensor convolve_3x3(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (is_packed(weight)) return convolve_3x3_packed(x, weight, bias, x.size(1), x.size(2), false);
  if (!is_float32(x)) return plain_convolution(x, weight, bias);
  check_3x3(x, weight, bias);
  if (winograd_pays(Filter3x3::tiles(x.size(0), x.size(1), x.size(2)), weight)) {
    return filtered(x, weight, bias, x.size(1), x.size(2), false);
  }
  return plain_convolution(x, weight, bias);
}

at::Tensor upsample_and_convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 int64_t height, int64_t width) {
  int64_t images = x.size(0), rows = x.size(1), columns = x.size(2), channels = x.size(3);
  TORCH_CHECK((height + 1) / 2 == rows && (width + 1) / 2 == columns,
              "upsampling doubles height and width, or one less");
  if (is_packed(weight)) return convolve_3x3_packed(x, weight, bias, height, width, true);
  if (is_float32(x)) check_3x3(x, weight, bias);
  if (is_float32(x) && winograd_pays(Filter3x3::tiles(images, height, width), weight)) {
    return filtered(x, weight, bias, height, width, true);
  }
  at::Tensor doubled = x.reshape({images, rows, 1, columns, 1, channels})
                           .expand({images, rows, 2, columns, 2, channels})
                           .reshape({images, 2 * rows, 2 * columns, channels});
  return convolve_3x3(doubled.narrow(1, 0, height).narrow(2, 0, width).contiguous(), weight, bias);
}

}  // namespace torchreel
