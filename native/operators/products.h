// Products of small matrices by oneDNN, of which operators build larger ones: row-major, summed in float32.
#pragma once

#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <exception>

#include "vector_math.h"

namespace torchreel {

// The second factor is stored in panels of this many columns, each a matrix (inputs, panel_width). In one
// piece, rows whose distance is a power of two would compete for the same lines of a core's cache.
constexpr int64_t panel_width = 64;

// Whether this libtorch has such products of float or BFloat16. On a processor without AVX2 it computes those
// of float with general ones, which are slower.
template <typename Number>
bool has_products() {
  static const bool there = [] {
    alignas(64) Number one[lanes * lanes] = {};
    alignas(64) float product[lanes * lanes];
    try {
      at::native::cpublas::brgemm(lanes, lanes, lanes, lanes, lanes, lanes, false, one, one, product);
      at::native::cpublas::brgemm_release();
      return true;
    } catch (const std::exception&) {  // of libtorch, or of oneDNN
      return false;
    }
  }();
  return there;
}

// Rows (count, depth), `stride` floats between them, become panels (depth, panel_width) of `count` columns;
// zeros up to the next 16. depth: a multiple of 16.
void transpose_to_panels(const float* rows, int64_t stride, int64_t count, int64_t depth, float* panels);

// A part of x·Wᵀ: the rows and outputs that it covers, and its numbers (rows, width).
struct Product {
  int64_t row, rows, output, width;
  const float *sums, *gates;  // gates: the same with the second half of a gated weight; not valid for others
};

// Resets the processor's state for the products of a thread. Their compiled code stays, one for each shape.
struct ProductsOfThread {
  ~ProductsOfThread() { at::native::cpublas::brgemm_release(); }
};

}  // namespace torchreel
