// Winograd's minimal filtering (Lavin and Gray 2015, https://arxiv.org/abs/1509.09308): neighbouring results
// of a convolution from fewer products than its definition takes. With d the inputs of a tile, g a kernel and
// ⊙ the product by elements,
//
//     Y = Aᵀ[(G·g) ⊙ (Bᵀ·d)],
//
// in two dimensions with the same from the right. Summed over channels, the brackets are one matrix product
// (tiles, C)·(C, O) for each position of the transformed tile. A `Filter` says what the transforms and where
// the pixels of a tile are.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "parallel.h"
#include "vector_math.h"

namespace torchreel {

// oneDNN's small matrix products, which there are for some processors only.
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

// Whether the products outweigh the transforms, of which the kernels' are the same for one tile and for many.
inline bool winograd_pays(int64_t tiles, const at::Tensor& weight) {
  int64_t outputs = weight.size(0), channels = weight.size(1);
  return channels % lanes == 0 && outputs % lanes == 0 && std::min(channels, outputs) >= 2 * lanes &&
         tiles >= 256 && has_products();
}

// What oneDNN's products keep for a thread goes with it.
struct ProductsOfThread {
  ~ProductsOfThread() { at::native::cpublas::brgemm_release(); }
};

// A Filter has
//     positions, results         of a transformed tile, of a tile's results
//     skips(position)            whether the transformed inputs are 0 there
//     sources(tile, pixels)      the inputs of a tile, each (C); null for zeros outside of the image
//     targets(tile, pixels)      its results, each (O); null outside of the image
//     transform_kernels(g, C, u, O)              u = G·g: 16 kernels, 16 of the O of u (positions, C, O)
//     transform_inputs(pixels, C, v, step)       v = Bᵀ·d: each position `step` numbers after the last
//     transform_outputs(m, step, O, bias, pixels)  pixels = Aᵀ·m + bias
template <typename Filter>
void winograd(const Filter& filter, int64_t tiles, const at::Tensor& weight, const at::Tensor& bias) {
  constexpr int64_t positions = Filter::positions;
  constexpr int64_t outputs_at_once = 512;  // bounds the memory of the transformed kernels
  int64_t outputs = weight.size(0), channels = weight.size(1), slice = std::min(outputs, outputs_at_once);
  // As many tiles as a core's own cache holds, before and after the products, but enough to pay for reading
  // the kernels; fewer where there would be none for some of the threads.
  int64_t threads = at::get_num_threads(), share = (tiles / threads + lanes - 1) / lanes * lanes;
  int64_t batch = std::clamp<int64_t>((int64_t{1} << 17) / (positions * (channels + slice)), 64, 256);
  batch = std::clamp(share, lanes, batch);
  int64_t parts = (tiles + batch - 1) / batch;
  at::Tensor transformed = at::empty({positions * channels * slice}, weight.options());
  at::Tensor scratch =
      at::empty({std::min(threads, parts), positions * batch * (channels + slice)}, weight.options());
  float* u = transformed.mutable_data_ptr<float>();
  const float* biases = bias.const_data_ptr<float>();

  for (int64_t first = 0; first < outputs; first += slice) {
    int64_t count = std::min(slice, outputs - first);
    in_parallel(count / lanes, std::max<int64_t>(1, 256 / channels), [&](int64_t begin, int64_t end) {
      for (int64_t part = begin * lanes; part < end * lanes; part += lanes) {
        const float* kernels = weight.const_data_ptr<float>() + (first + part) * weight.stride(0);
        filter.transform_kernels(kernels, channels, u + part, count);
      }
    });
    in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
      ProductsOfThread products;
      float* v = scratch.mutable_data_ptr<float>() + at::get_thread_num() * scratch.stride(0);
      float* m = v + positions * batch * channels;
      for (int64_t tile = begin * batch; tile < std::min(end * batch, tiles); tile += batch) {
        int64_t held = std::min(batch, tiles - tile);
        for (int64_t i = 0; i < held; ++i) {
          const float* pixels[positions];
          filter.sources(tile + i, pixels);
          Filter::transform_inputs(pixels, channels, v + i * channels, batch * channels);
        }
        // Rows past the last tile hold what was there before, and nobody reads what becomes of them.
        for (int64_t p = 0; p < positions; ++p) {
          if (filter.skips(p)) continue;
          at::native::cpublas::brgemm(batch, count, channels, channels, count, count, /*add_C=*/false,
                                      v + p * batch * channels, u + p * channels * count,
                                      m + p * batch * count);
        }
        for (int64_t i = 0; i < held; ++i) {
          float* pixels[Filter::results];
          filter.targets(tile + i, pixels);
          for (float*& pixel : pixels) pixel = pixel ? pixel + first : nullptr;
          filter.transform_outputs(m + i * count, batch * count, count, biases + first, pixels);
        }
      }
    });
  }
}

}  // namespace torchreel
