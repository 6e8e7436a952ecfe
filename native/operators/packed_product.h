// Products of rows in bfloat16 with a packed weight, summed in float32: what linear layers and convolutions
// have in common.
#pragma once

#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "bfloat16.h"
#include "packed_weight.h"
#include "parallel.h"
#include "products.h"

namespace torchreel {

struct Panels {
  explicit Panels(const at::Tensor& packed)
      : count(packed.size(0)),
        width(packed.size(2)),
        inputs(2 * packed.size(1)),
        outputs(count * width),
        data(packed.const_data_ptr<BFloat16>()) {}

  const BFloat16* at(int64_t panel) const { return data + panel * inputs * width; }

  int64_t count, width, inputs, outputs;
  const BFloat16* data;
};

// sums (rows, width) = x (rows, inputs)·panel. x: `stride` numbers between rows.
inline void multiply(const BFloat16* x, int64_t stride, int64_t rows, const Panels& weight, int64_t panel,
                     float* sums) {
  constexpr int64_t most = 1024;  // inputs at a time, so that their part of the panel stays in a core's cache
  const BFloat16* factors = weight.at(panel);
  for (int64_t first = 0; first < weight.inputs; first += most) {
    at::native::cpublas::brgemm(rows, weight.width, std::min(most, weight.inputs - first), stride,
                                weight.width, weight.width, /*add_C=*/first > 0, x + first,
                                factors + first * weight.width, sums);
  }
}

constexpr int64_t rows_of_product = 128;  // of a product, so that its sums stay in a core's first cache

// The most rows of a block. They stay in a core's own cache while each panel is read once for all of them.
inline int64_t most_rows_of_block(int64_t inputs) {
  return std::clamp<int64_t>((int64_t{1} << 18) / inputs / rows_of_product, 1, 8) * rows_of_product;
}

// A block of rows, and of panels, for a thread.
struct Block {
  int64_t row, rows, panel, panels;
};

// Calls work(block, room) for all rows of `inputs` numbers and all panels, in parallel. room: memory of
// `floats` numbers.
inline void in_blocks(int64_t rows, int64_t inputs, int64_t panels, int64_t floats,
                      c10::function_ref<void(const Block&, float*)> work) {
  if (rows == 0) return;
  int64_t threads = parallel_threads();
  int64_t slices = (rows + rows_of_product - 1) / rows_of_product;
  if (slices > threads / 2) slices = (slices + threads - 1) / threads * threads;
  int64_t height = (rows + slices - 1) / slices;
  slices = (rows + height - 1) / height;
  int64_t parts = std::clamp<int64_t>(threads / slices, 1, panels), share = (panels + parts - 1) / parts;
  parts = (panels + share - 1) / share;
  int64_t most = parts == 1 ? most_rows_of_block(inputs) / height : 1;  // slices of a block
  at::Tensor rooms = at::empty({std::min(threads, slices * parts), floats}, at::kFloat);
  in_parallel(slices * parts, 1, [&](int64_t begin, int64_t end) {
    ProductsOfThread products;
    float* room = rooms.mutable_data_ptr<float>() + parallel_thread() * floats;
    for (int64_t piece = begin; piece < end; piece += most) {
      int64_t row = piece / parts * height, panel = piece % parts * share;
      int64_t count = std::min(most, end - piece) * height;
      work({row, std::min(count, rows - row), panel, std::min(share, panels - panel)}, room);
    }
  });
}

}  // namespace torchreel
