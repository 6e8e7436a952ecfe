// Products of small matrices by oneDNN, which operators put together to their own: float32, row-major.
#pragma once

#include <ATen/native/CPUBlas.h>

#include <algorithm>

#include "vector_math.h"

namespace torchreel {

// The second factor lies in panels of so many columns, each a matrix (inputs, panel_width) of its own. In one
// piece its rows would lie so far apart that at powers of two they share a place in a core's cache.
constexpr int64_t panel_width = 64;

// How many columns of the second factor to take at a time, whole panels or all there are: as many as leave it
// in the cache that the cores share. floats: what a column takes.
inline int64_t columns_at_once(int64_t columns, int64_t floats) {
  int64_t some = std::max<int64_t>(1, (int64_t{1} << 22) / (floats * panel_width)) * panel_width;
  return std::min(some, columns);
}

// There are such products for some processors only.
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

// What oneDNN keeps for a thread goes with it.
struct ProductsOfThread {
  ~ProductsOfThread() { at::native::cpublas::brgemm_release(); }
};

}  // namespace torchreel
