#include <ATen/ops/conv2d.h>

#include "operators.h"
#include "packed_convolution.h"
#include "packed_weight.h"
#include "winograd.h"

namespace torchreel {
namespace {

// The 16 kernels at g, (16, C, 3, 3), become 16 of the O columns of u (16 positions, C, O).
TORCHREEL_CLONED void transform_3x3(const float* g, const int64_t* strides, int64_t channels, float* u,
                                    int64_t step, int64_t outputs) {
  for (int64_t channel = 0; channel < channels; ++channel) {
    float taps[9][lanes];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const float* kernel = g + lane * strides[0] + channel * strides[1];
      for (int64_t tap = 0; tap < 9; ++tap) {
        taps[tap][lane] = kernel[tap / 3 * strides[2] + tap % 3 * strides[3]];
      }
    }
    Floats rows[4][3];
    for (int64_t column = 0; column < 3; ++column) {
      Floats above, middle, below;
      std::memcpy(&above, taps[column], sizeof above);
      std::memcpy(&middle, taps[3 + column], sizeof middle);
      std::memcpy(&below, taps[6 + column], sizeof below);
      rows[0][column] = above;
      rows[1][column] = (above + middle + below) * 0.5f;
      rows[2][column] = (above - middle + below) * 0.5f;
      rows[3][column] = below;
    }
    for (int64_t row = 0; row < 4; ++row) {
      const auto& [left, middle, right] = rows[row];
      float* to = u + row * 4 * step + channel * outputs;
      *reinterpret_cast<Floats*>(to) = left;
      *reinterpret_cast<Floats*>(to + step) = (left + middle + right) * 0.5f;
      *reinterpret_cast<Floats*>(to + 2 * step) = (left - middle + right) * 0.5f;
      *reinterpret_cast<Floats*>(to + 3 * step) = right;
    }
  }
}

TORCHREEL_CLONED void transform_4x4(const float* const* pixels, int64_t channels, float* v, int64_t step) {
  for (int64_t i = 0; i < channels; i += lanes) {
    Floats d[4][4], rows[4][4];
    for (int64_t p = 0; p < 16; ++p) {
      d[p / 4][p % 4] = pixels[p] ? *reinterpret_cast<const Floats*>(pixels[p] + i) : Floats{};
    }
    for (int64_t column = 0; column < 4; ++column) {
      rows[0][column] = d[0][column] - d[2][column];
      rows[1][column] = d[1][column] + d[2][column];
      rows[2][column] = d[2][column] - d[1][column];
      rows[3][column] = d[1][column] - d[3][column];
    }
    for (int64_t row = 0; row < 4; ++row) {
      float* to = v + row * 4 * step + i;
      *reinterpret_cast<Floats*>(to) = rows[row][0] - rows[row][2];
      *reinterpret_cast<Floats*>(to + step) = rows[row][1] + rows[row][2];
      *reinterpret_cast<Floats*>(to + 2 * step) = rows[row][2] - rows[row][1];
      *reinterpret_cast<Floats*>(to + 3 * step) = rows[row][1] - rows[row][3];
    }
  }
}

// doubled: the third row and column of m are 0 and were not computed.
template <bool doubled>
TORCHREEL_INLINE void transform_2x2(const float* m, int64_t step, int64_t outputs, const float* bias,
                                    float* const* pixels) {
  for (int64_t i = 0; i < outputs; i += lanes) {
    Floats product[4][4], rows[2][4];
    for (int64_t p = 0; p < 16; ++p) {
      bool zero = doubled && (p / 4 == 2 || p % 4 == 2);
      product[p / 4][p % 4] = zero ? Floats{} : *reinterpret_cast<const Floats*>(m + p * step + i);
    }
    for (int64_t column = 0; column < 4; ++column) {
      rows[0][column] = product[0][column] + product[1][column] + product[2][column];
      rows[1][column] = product[1][column] - product[2][column] - product[3][column];
    }
    Floats base = *reinterpret_cast<const Floats*>(bias + i);
    for (int64_t row = 0; row < 2; ++row) {
      const auto& [first, second, third, fourth] = rows[row];
      if (pixels[2 * row]) *reinterpret_cast<Floats*>(pixels[2 * row] + i) = first + second + third + base;
      if (pixels[2 * row + 1]) {
        *reinterpret_cast<Floats*>(pixels[2 * row + 1] + i) = second - third - fourth + base;
      }
    }
  }
}

TORCHREEL_CLONED void transform_products(const float* m, int64_t step, int64_t outputs, const float* bias,
                                         float* const* pixels) {
  transform_2x2<false>(m, step, outputs, bias, pixels);
}

TORCHREEL_CLONED void transform_products_of_doubled(const float* m, int64_t step, int64_t outputs,
                                                    const float* bias, float* const* pixels) {
  transform_2x2<true>(m, step, outputs, bias, pixels);
}

// F(2×2, 3×3): four results from 16 products, where the definition needs 36. In an image whose pixels are
// doubled in both directions, the second and third row of a tile's inputs are equal, and so are the columns.
// Their differences are 0, and 9 products are left.
class Filter3x3 {
 public:
  static constexpr int64_t positions = 16, results = 4;

  Filter3x3(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y, bool doubled)
      : from_(x.const_data_ptr<float>()),
        to_(y.mutable_data_ptr<float>()),
        strides_(weight.strides()),
        doubled_(doubled),
        whole_(doubled && y.size(1) % 2 == 0 && y.size(2) % 2 == 0),
        height_(y.size(1)),
        width_(y.size(2)),
        source_height_(x.size(1)),
        source_width_(x.size(2)),
        channels_(x.size(3)),
        outputs_(y.size(3)) {}

  static int64_t tiles(int64_t images, int64_t height, int64_t width) {
    return images * ((height + 1) / 2) * ((width + 1) / 2);
  }

  bool skips(int64_t position) const { return whole_ && (position / 4 == 2 || position % 4 == 2); }

  void sources(int64_t tile, const float** pixels) const {
    auto [image, top, left] = place(tile);
    for (int64_t p = 0; p < positions; ++p) {
      int64_t row = top + p / 4 - 1, column = left + p % 4 - 1;
      bool inside = row >= 0 && row < height_ && column >= 0 && column < width_;
      int64_t source_row = doubled_ ? row / 2 : row, source_column = doubled_ ? column / 2 : column;
      int64_t pixel = (image * source_height_ + source_row) * source_width_ + source_column;
      pixels[p] = inside ? from_ + pixel * channels_ : nullptr;
    }
  }

  void targets(int64_t tile, float** pixels) const {
    auto [image, top, left] = place(tile);
    for (int64_t p = 0; p < results; ++p) {
      int64_t row = top + p / 2, column = left + p % 2;
      bool inside = row < height_ && column < width_;
      pixels[p] = inside ? to_ + ((image * height_ + row) * width_ + column) * outputs_ : nullptr;
    }
  }

  void transform_kernels(const float* g, int64_t channels, float* u, int64_t step, int64_t outputs) const {
    transform_3x3(g, strides_.data(), channels, u, step, outputs);
  }
  static void transform_inputs(const float* const* pixels, int64_t channels, float* v, int64_t step) {
    transform_4x4(pixels, channels, v, step);
  }
  void transform_outputs(const float* m, int64_t step, int64_t outputs, const float* bias,
                         float* const* pixels) const {
    (whole_ ? transform_products_of_doubled : transform_products)(m, step, outputs, bias, pixels);
  }

 private:
  struct Place {
    int64_t image, top, left;
  };
  Place place(int64_t tile) const {
    int64_t rows = (height_ + 1) / 2, columns = (width_ + 1) / 2;
    return {tile / (rows * columns), tile / columns % rows * 2, tile % columns * 2};
  }

  const float* from_;
  float* to_;
  at::IntArrayRef strides_;
  bool doubled_, whole_;
  int64_t height_, width_, source_height_, source_width_, channels_, outputs_;
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
