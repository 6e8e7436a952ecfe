// Winograd's minimal filtering (Lavin and Gray 2015, https://arxiv.org/abs/1509.09308): neighbouring results
// of a convolution from fewer products than its definition needs. With d the inputs of a tile, g a kernel and
// ⊙ the product by elements,
//
//     Y = Aᵀ[(G·g) ⊙ (Bᵀ·d)],
//
// and in two dimensions with the same factors from the right. Summed over channels, the brackets are one
// matrix product (tiles, C)·(C, O) for each position of the transformed tile. A `Filter` defines the
// transforms and the pixels of a tile.
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>

#include "parallel.h"
#include "products.h"

namespace torchreel {

// Whether the saved products are worth the transforms. The kernels are transformed once for all tiles.
inline bool winograd_pays(int64_t tiles, const at::Tensor& weight) {
  int64_t outputs = weight.size(0), channels = weight.size(1);
  return channels % lanes == 0 && outputs % lanes == 0 && std::min(channels, outputs) >= 2 * lanes &&
         tiles >= 32 && has_products<float>();
}

// How many columns of the second factor to use at a time, in whole panels or all: as many as fit into the
// cache that the cores share. floats: the size of a column.
inline int64_t columns_at_once(int64_t columns, int64_t floats) {
  int64_t some = std::max<int64_t>(1, (int64_t{1} << 22) / (floats * panel_width)) * panel_width;
  return std::min(some, columns);
}

// A Filter has
//     positions, results         of a transformed tile, of a tile's results
//     skips(position)            whether the transformed inputs are 0 there
//     sources(tile, pixels)      the inputs of a tile, each (C); null for zeros outside of the image
//     targets(tile, pixels)      its results, each (O); null outside of the image
//     transform_kernels(g, C, u, step, O)        u = G·g: 16 kernels, 16 of the O of u (positions, C, O)
//     transform_inputs(pixels, C, v, step)       v = Bᵀ·d: each position `step` numbers after the last
//     transform_outputs(m, step, O, bias, pixels)  pixels = Aᵀ·m + bias
template <typename Filter>
void winograd(const Filter& filter, int64_t tiles, const at::Tensor& weight, const at::Tensor& bias) {
  constexpr int64_t positions = Filter::positions;
  int64_t outputs = weight.size(0), channels = weight.size(1);
  int64_t slice = columns_at_once(outputs, positions * channels);
  // As many tiles as a core's own cache holds before and after the products, but enough to be worth reading
  // the kernels; the same number for each thread.
  int64_t threads = parallel_threads(), share = std::max(lanes, (tiles + threads - 1) / threads);
  int64_t most = std::clamp<int64_t>((int64_t{1} << 17) / (positions * (channels + slice)), 64, 256);
  int64_t batches = (share + most - 1) / most, batch = (share + batches - 1) / batches;
  int64_t parts = (tiles + batch - 1) / batch;
  // A gap after each position, since its size is often a power of two.
  int64_t kernel_step = channels * slice + lanes, input_step = batch * channels + lanes,
          product_step = batch * slice + lanes;
  at::Tensor transformed = at::empty({positions * kernel_step}, weight.options());
  at::Tensor scratch =
      at::empty({std::min(threads, parts), positions * (input_step + product_step)}, weight.options());
  float* u = transformed.mutable_data_ptr<float>();
  const float* biases = bias.const_data_ptr<float>();

  for (int64_t first = 0; first < outputs; first += slice) {
    int64_t count = std::min(slice, outputs - first);
    in_parallel(count / lanes, std::max<int64_t>(1, 256 / channels), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin * lanes; part < end * lanes; part += lanes) {
        const float* kernels = weight.const_data_ptr<float>() + (first + part) * weight.stride(0);
        int64_t panel = part / panel_width * panel_width;
        filter.transform_kernels(kernels, channels, u + panel * channels + part % panel_width, kernel_step,
                                 std::min(panel_width, count - panel));
      }
    });
    in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
      ProductsOfThread products;
      float* v = scratch.mutable_data_ptr<float>() + parallel_thread() * scratch.stride(0);
      float* m = v + positions * input_step;
      for (int64_t tile = begin * batch; tile < std::min(end * batch, tiles); tile += batch) {
        int64_t held = std::min(batch, tiles - tile);
        for (int64_t i = 0; i < held; ++i) {
          const float* pixels[positions];
          filter.sources(tile + i, pixels);
          Filter::transform_inputs(pixels, channels, v + i * channels, input_step);
        }
        // Rows after the last tile have old numbers; their products are not read.
        for (int64_t p = 0; p < positions; ++p) {
          if (filter.skips(p)) continue;
          for (int64_t panel = 0; panel < count; panel += panel_width) {
            int64_t width = std::min(panel_width, count - panel);
            at::native::cpublas::brgemm(batch, width, channels, channels, width, count, /*add_C=*/false,
                                        v + p * input_step, u + p * kernel_step + panel * channels,
                                        m + p * product_step + panel);
          }
        }
        for (int64_t i = 0; i < held; ++i) {
          float* pixels[Filter::results];
          filter.targets(tile + i, pixels);
          for (float*& pixel : pixels) pixel = pixel ? pixel + first : nullptr;
          filter.transform_outputs(m + i * count, product_step, count, biases + first, pixels);
        }
      }
    });
  }
}

}  // namespace torchreel
