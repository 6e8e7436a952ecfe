#include "packed_convolution.h"

#include "packed_product.h"
#include "tiles_3x3.h"

namespace torchreel {
namespace {

// y = sums + bias, or y += sums + bias; `stride` numbers between the rows of y.
TORCHREEL_BFLOAT16 void finish(const float* sums, int64_t rows, int64_t width, const BFloat16* bias,
                               bool added, BFloat16* y, int64_t stride) {
  for (int64_t i = 0; i < width; i += lanes) {
    Floats base = load_fast(bias + i);
    for (int64_t row = 0; row < rows; ++row) {
      BFloat16* to = y + row * stride + i;
      Floats sum = load(sums + row * width + i) + base;
      store_fast(to, added ? load_fast(to) + sum : sum);
    }
  }
}

// added: whether the results are added to y. Each result is the product of the weight and of a row: the
// inputs that the kernel covers. gather(row, to) writes one. The rows of a block fit into a core's own cache,
// and are read once for each panel.
template <typename Gather>
void convolve_rows(int64_t rows, const at::Tensor& weight, const at::Tensor& bias, bool added, at::Tensor& y,
                   const Gather& gather) {
  Panels panels(weight);
  const BFloat16* base = bias.const_data_ptr<BFloat16>();
  BFloat16* to = y.mutable_data_ptr<BFloat16>();
  int64_t tile = rows_of_product * panels.width;
  int64_t room = tile + std::min(rows, most_rows_of_block(panels.inputs)) * panels.inputs / 2;
  in_blocks(rows, panels.inputs, panels.count, room, [&](const Block& block, float* sums) {
    BFloat16* gathered = reinterpret_cast<BFloat16*>(sums + tile);
    for (int64_t row = 0; row < block.rows; ++row) gather(block.row + row, gathered + row * panels.inputs);
    for (int64_t panel = block.panel; panel < block.panel + block.panels; ++panel) {
      int64_t first = panel * panels.width;
      for (int64_t row = 0; row < block.rows; row += rows_of_product) {
        int64_t count = std::min(rows_of_product, block.rows - row);
        multiply(gathered + row * panels.inputs, panels.inputs, count, panels, panel, sums);
        finish(sums, count, panels.width, base + first, added,
               to + (block.row + row) * panels.outputs + first, panels.outputs);
      }
    }
  });
}

void copy_numbers(const BFloat16* from, int64_t count, BFloat16* to) {
  std::memcpy(static_cast<void*>(to), from, static_cast<size_t>(count) * sizeof(BFloat16));
}

void clear_numbers(BFloat16* to, int64_t count) {
  std::memset(static_cast<void*>(to), 0, static_cast<size_t>(count) * sizeof(BFloat16));
}

void check_packed_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              int64_t taps) {
  TORCH_CHECK(x.dim() == 4 && x.scalar_type() == at::kBFloat16 && 2 * weight.size(1) == taps * x.size(3),
              "a packed convolution takes bfloat16 with the weight's channels");
  TORCH_CHECK(bias.is_contiguous() && bias.scalar_type() == at::kBFloat16 &&
                  bias.numel() == weight.size(0) * weight.size(2),
              "a packed convolution takes a bfloat16 bias (O)");
}

at::Tensor convolve_3x3_directly(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 int64_t height, int64_t width, bool doubled) {
  int64_t images = x.size(0), source_height = x.size(1), source_width = x.size(2), channels = x.size(3);
  at::Tensor y = at::empty({images, height, width, bias.numel()}, x.options());
  const BFloat16* from = x.const_data_ptr<BFloat16>();
  auto gather = [&](int64_t row, BFloat16* to) {
    int64_t image = row / (height * width), top = row / width % height - 1, left = row % width - 1;
    for (int64_t i = top; i < top + 3; ++i, to += 3 * channels) {
      if (i < 0 || i >= height) {
        clear_numbers(to, 3 * channels);
        continue;
      }
      const BFloat16* line = from + (image * source_height + (doubled ? i / 2 : i)) * source_width * channels;
      if (!doubled && left >= 0 && left + 3 <= width) {
        copy_numbers(line + left * channels, 3 * channels, to);
        continue;
      }
      for (int64_t j = left; j < left + 3; ++j) {
        BFloat16* pixel = to + (j - left) * channels;
        if (j < 0 || j >= width)
          clear_numbers(pixel, channels);
        else
          copy_numbers(line + (doubled ? j / 2 : j) * channels, channels, pixel);
      }
    }
  };
  convolve_rows(images * height * width, weight, bias, /*added=*/false, y, gather);
  return y;
}

}  // namespace

at::Tensor convolve_3x3_packed(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias,
                               int64_t height, int64_t width, bool doubled) {
  check_packed_convolution(given, weight, bias, 9);
  at::Tensor x = given.contiguous();
  if (packed_winograd_pays(Tiles3x3<BFloat16>::tiles(x.size(0), height, width), x.size(3)))
    return packed_winograd(x, weight, bias, height, width, doubled);
  return convolve_3x3_directly(x, weight, bias, height, width, doubled);
}

at::Tensor convolve_frames_packed(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias,
                                  const at::Tensor& sum) {
  check_packed_convolution(given, weight, bias, 3);
  at::Tensor x = given.contiguous();
  int64_t videos = x.size(0), frames = x.size(1), pixels = x.size(2), channels = x.size(3);
  at::Tensor y = sum.defined() ? sum : at::empty({videos, frames, pixels, bias.numel()}, x.options());
  const BFloat16* from = x.const_data_ptr<BFloat16>();
  auto gather = [&](int64_t row, BFloat16* to) {
    int64_t frame = row / pixels % frames;
    for (int64_t tap = -1; tap <= 1; ++tap, to += channels) {
      if (frame + tap < 0 || frame + tap >= frames)
        clear_numbers(to, channels);
      else
        copy_numbers(from + (row + tap * pixels) * channels, channels, to);
    }
  };
  convolve_rows(videos * frames * pixels, weight, bias, sum.defined(), y, gather);
  return y;
}

}  // namespace torchreel
