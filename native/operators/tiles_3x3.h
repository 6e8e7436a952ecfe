// Tiles of 4 × 4 inputs and 2 × 2 results of a 3 × 3 convolution, and their transforms (winograd.h), in
// float32 and in bfloat16.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "bfloat16.h"

namespace torchreel {

// u = G·g·Gᵀ of the 9 taps g.
TORCHREEL_INLINE void transform_taps(const Floats* taps, Floats (&u)[4][4]) {
  Floats rows[4][3];
  for (int64_t column = 0; column < 3; ++column) {
    const Floats &above = taps[column], &middle = taps[3 + column], &below = taps[6 + column];
    rows[0][column] = above;
    rows[1][column] = (above + middle + below) * 0.5f;
    rows[2][column] = (above - middle + below) * 0.5f;
    rows[3][column] = below;
  }
  for (int64_t row = 0; row < 4; ++row) {
    const auto& [left, middle, right] = rows[row];
    u[row][0] = left;
    u[row][1] = (left + middle + right) * 0.5f;
    u[row][2] = (left - middle + right) * 0.5f;
    u[row][3] = right;
  }
}

// v = Bᵀ·d·B: each of the 16 positions `step` numbers after the last.
template <typename Number>
TORCHREEL_INLINE void transform_tile(const Number* const* pixels, int64_t channels, Number* v, int64_t step) {
  for (int64_t i = 0; i < channels; i += lanes) {
    Floats d[4][4], rows[4][4];
    for (int64_t p = 0; p < 16; ++p) {
      d[p / 4][p % 4] = pixels[p] ? load_fast(pixels[p] + i) : Floats{};
    }
    for (int64_t column = 0; column < 4; ++column) {
      rows[0][column] = d[0][column] - d[2][column];
      rows[1][column] = d[1][column] + d[2][column];
      rows[2][column] = d[2][column] - d[1][column];
      rows[3][column] = d[1][column] - d[3][column];
    }
    for (int64_t row = 0; row < 4; ++row) {
      Number* to = v + row * 4 * step + i;
      store_fast(to, rows[row][0] - rows[row][2]);
      store_fast(to + step, rows[row][1] + rows[row][2]);
      store_fast(to + 2 * step, rows[row][2] - rows[row][1]);
      store_fast(to + 3 * step, rows[row][1] - rows[row][3]);
    }
  }
}

// pixels = Aᵀ·m·A + bias. doubled: the third row and column of m are 0 and were not computed.
template <bool doubled, typename Number>
TORCHREEL_INLINE void transform_results(const float* m, int64_t step, int64_t outputs, const Number* bias,
                                        Number* const* pixels) {
  for (int64_t i = 0; i < outputs; i += lanes) {
    Floats product[4][4], rows[2][4];
    for (int64_t p = 0; p < 16; ++p) {
      bool zero = doubled && (p / 4 == 2 || p % 4 == 2);
      product[p / 4][p % 4] = zero ? Floats{} : load(m + p * step + i);
    }
    for (int64_t column = 0; column < 4; ++column) {
      rows[0][column] = product[0][column] + product[1][column] + product[2][column];
      rows[1][column] = product[1][column] - product[2][column] - product[3][column];
    }
    Floats base = load_fast(bias + i);
    for (int64_t row = 0; row < 2; ++row) {
      const auto& [first, second, third, fourth] = rows[row];
      if (pixels[2 * row]) store_fast(pixels[2 * row] + i, first + second + third + base);
      if (pixels[2 * row + 1]) {
        store_fast(pixels[2 * row + 1] + i, second - third - fourth + base);
      }
    }
  }
}

// F(2×2, 3×3): four results from 16 products, where the definition needs 36. In an image whose pixels are
// doubled in both directions, the second and third row of a tile's inputs are equal, and so are the columns.
// Their differences are 0, and 9 products are left.
template <typename Number>
class Tiles3x3 {
 public:
  static constexpr int64_t positions = 16, results = 4;

  Tiles3x3(const at::Tensor& x, at::Tensor& y, bool doubled)
      : from_(x.const_data_ptr<Number>()),
        to_(y.mutable_data_ptr<Number>()),
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

  void sources(int64_t tile, const Number** pixels) const {
    auto [image, top, left] = place(tile);
    for (int64_t p = 0; p < positions; ++p) {
      int64_t row = top + p / 4 - 1, column = left + p % 4 - 1;
      bool inside = row >= 0 && row < height_ && column >= 0 && column < width_;
      int64_t source_row = doubled_ ? row / 2 : row, source_column = doubled_ ? column / 2 : column;
      int64_t pixel = (image * source_height_ + source_row) * source_width_ + source_column;
      pixels[p] = inside ? from_ + pixel * channels_ : nullptr;
    }
  }

  void targets(int64_t tile, Number** pixels) const {
    auto [image, top, left] = place(tile);
    for (int64_t p = 0; p < results; ++p) {
      int64_t row = top + p / 2, column = left + p % 2;
      bool inside = row < height_ && column < width_;
      pixels[p] = inside ? to_ + ((image * height_ + row) * width_ + column) * outputs_ : nullptr;
    }
  }

  bool whole() const { return whole_; }

 private:
  struct Place {
    int64_t image, top, left;
  };
  Place place(int64_t tile) const {
    int64_t rows = (height_ + 1) / 2, columns = (width_ + 1) / 2;
    return {tile / (rows * columns), tile / columns % rows * 2, tile % columns * 2};
  }

  const Number* from_;
  Number* to_;
  bool doubled_, whole_;
  int64_t height_, width_, source_height_, source_width_, channels_, outputs_;
};

}  // namespace torchreel
