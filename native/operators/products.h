// Products of small matrices by oneDNN, which operators put together to their own: float32, row-major.
#pragma once

#include <ATen/native/CPUBlas.h>

#include <algorithm>

#include "vector_math.h"

namespace torchreel {

// The second factor lies in panels of so many columns, each a matrix (inputs, panel_width) of its own. In one
// piece its rows would lie so far apart that at powers of two they share a place in a core's cache.
constexpr int64_t panel_width = 64;

// Whether there are such products: not in every libtorch. Where the processor lacks vectors (AVX2), libtorch
// makes them with its general ones: right, and slower.
inline bool has_products() {
  static const bool there = [] {
    float one[lanes * lanes] = {}, product[lanes * lanes];
    try {
      at::native::cpublas::brgemm(lanes, lanes, lanes, lanes, lanes, lanes, false, one, one, product);
      at::native::cpublas::brgemm_release();
      return true;
    } catch (const c10::Error&) {
      return false;
    }
  }();
  return there;
}

// Gives back what the processor was set to for a thread's products; their code stays, one for each shape.
struct ProductsOfThread {
  ~ProductsOfThread() { at::native::cpublas::brgemm_release(); }
};

}  // namespace torchreel
