#include "packed_convolution.h"
#include "packed_product.h"
#include "tiles_3x3.h"

namespace torchreel {
namespace {

// Kernels of `pairs` pairs of channels from a panel (9·C / 2, width, 2) of a packed weight: u = G·g·Gᵀ, each
// of the 16 positions `step` numbers after the last, as panels (C / 2, width, 2).
TORCHREEL_BFLOAT16 void transform_kernels(const BFloat16* panel, int64_t channels, int64_t pairs,
                                          int64_t width, BFloat16* u, int64_t step) {
  for (int64_t i = 0; i < pairs * width; i += lanes) {
    Words pair[9], transformed[16];
    for (int64_t tap = 0; tap < 9; ++tap)
      pair[tap] = *reinterpret_cast<const Words*>(panel + tap * channels * width + 2 * i);
    for (int64_t half = 0; half < 2; ++half) {
      Floats taps[9], results[4][4];
      for (int64_t tap = 0; tap < 9; ++tap) {
        Words bits = half ? pair[tap] & 0xffff0000u : pair[tap] << 16;
        std::memcpy(&taps[tap], &bits, sizeof bits);
      }
      transform_taps(taps, results);
      for (int64_t p = 0; p < 16; ++p) {
        Words bits = nearest(results[p / 4][p % 4]);
        if (half)
          transformed[p] |= bits & 0xffff0000u;
        else
          transformed[p] = bits >> 16;
      }
    }
    for (int64_t p = 0; p < 16; ++p)
      std::memcpy(static_cast<void*>(u + p * step + 2 * i), &transformed[p], sizeof transformed[p]);
  }
}

TORCHREEL_BFLOAT16 void transform_inputs(const BFloat16* const* pixels, int64_t channels, BFloat16* v,
                                         int64_t step) {
  transform_tile(pixels, channels, v, step);
}

TORCHREEL_BFLOAT16 void transform_products(const float* m, int64_t step, int64_t outputs, bool whole,
                                           const BFloat16* bias, BFloat16* const* pixels) {
  if (whole)
    transform_results<true>(m, step, outputs, bias, pixels);
  else
    transform_results<false>(m, step, outputs, bias, pixels);
}

}  // namespace

// With AMX, products are so fast that saving some of them pays only in larger layers.
bool packed_winograd_pays(int64_t tiles, int64_t channels) {
  bool amx = has_amx();
  return channels % lanes == 0 && channels >= (amx ? 6 : 2) * lanes && tiles >= (amx ? 128 : 64);
}

at::Tensor packed_winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           int64_t height, int64_t width, bool doubled) {
  using at::native::cpublas::brgemm;
  constexpr int64_t positions = 16;
  Panels panels(weight);
  int64_t channels = x.size(3);
  at::Tensor y = at::empty({x.size(0), height, width, panels.outputs}, x.options());
  Tiles3x3<BFloat16> geometry(x, y, doubled);
  int64_t tiles = Tiles3x3<BFloat16>::tiles(x.size(0), height, width);

  // As many panels at a time as fit into the cache that the cores share; as many tiles as fit into a core's
  // own, but enough to be worth reading the kernels.
  int64_t panel_size = channels * panels.width;
  int64_t slice = std::clamp<int64_t>((int64_t{1} << 22) / (positions * panel_size), 1, panels.count);
  int64_t threads = parallel_threads(), share = std::max(lanes, (tiles + threads - 1) / threads);
  int64_t most =
      std::clamp<int64_t>((int64_t{1} << 18) / (positions * (channels + 2 * panels.width)), 64, 128);
  int64_t batches = (share + most - 1) / most, batch = (share + batches - 1) / batches;
  int64_t parts = (tiles + batch - 1) / batch;
  // A gap after each position, since its size is often a power of two.
  int64_t kernel_step = slice * panel_size + 2 * lanes, input_step = batch * channels + 2 * lanes,
          product_step = batch * panels.width + lanes;
  at::Tensor kernels = at::empty({positions * kernel_step}, weight.options());
  at::Tensor rooms =
      at::empty({std::min(threads, parts), positions * (input_step / 2 + product_step)}, at::kFloat);
  BFloat16* u = kernels.mutable_data_ptr<BFloat16>();
  const BFloat16* base = bias.const_data_ptr<BFloat16>();

  for (int64_t first = 0; first < panels.count; first += slice) {
    int64_t count = std::min(slice, panels.count - first);
    in_parallel(count * channels / lanes, std::max<int64_t>(1, 4096 / (panels.width * lanes)),
                [&](int64_t begin, int64_t end) {
                  for (int64_t piece = begin; piece < end; ++piece) {
                    int64_t panel = piece / (channels / lanes), channel = piece % (channels / lanes) * lanes;
                    transform_kernels(panels.at(first + panel) + channel * panels.width, channels, lanes / 2,
                                      panels.width, u + panel * panel_size + channel * panels.width,
                                      kernel_step);
                  }
                });
    in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
      ProductsOfThread products;
      float* m = rooms.mutable_data_ptr<float>() + parallel_thread() * rooms.stride(0);
      BFloat16* v = reinterpret_cast<BFloat16*>(m + positions * product_step);
      for (int64_t tile = begin * batch; tile < std::min(end * batch, tiles); tile += batch) {
        int64_t held = std::min(batch, tiles - tile);
        for (int64_t i = 0; i < held; ++i) {
          const BFloat16* pixels[positions];
          geometry.sources(tile + i, pixels);
          transform_inputs(pixels, channels, v + i * channels, input_step);
        }
        for (int64_t panel = 0; panel < count; ++panel) {
          for (int64_t p = 0; p < positions; ++p) {
            if (geometry.skips(p)) continue;
            brgemm(held, panels.width, channels, channels, panels.width, panels.width, /*add_C=*/false,
                   v + p * input_step, u + p * kernel_step + panel * panel_size, m + p * product_step);
          }
          int64_t output = (first + panel) * panels.width;
          for (int64_t i = 0; i < held; ++i) {
            BFloat16* pixels[Tiles3x3<BFloat16>::results];
            geometry.targets(tile + i, pixels);
            for (BFloat16*& pixel : pixels) pixel = pixel ? pixel + output : nullptr;
            transform_products(m + i * panels.width, product_step, panels.width, geometry.whole(),
                               base + output, pixels);
          }
        }
      }
    });
  }
  return y;
}

}  // namespace torchreel
