#include "panel_product.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "parallel.h"

namespace torchreel {
namespace {

// At most this many inputs of a panel, and rows of a piece (half as many if gated), so that both stay in a
// core's own cache.
constexpr int64_t most_inputs = 512, most_rows = 1024;
constexpr int64_t fewest_rows = 32;  // of a piece, for which transposing the weight still pays
constexpr int64_t rows_at_once = 128;

}  // namespace

bool panels_pay(int64_t rows, int64_t inputs, int64_t outputs) {
  return rows >= 64 && inputs > 0 && outputs > 0 && inputs % lanes == 0 && outputs % lanes == 0 &&
         has_products<float>();
}

void multiply_in_panels(const float* x, int64_t rows, const float* weight, int64_t inputs, int64_t outputs,
                        bool gated, c10::function_ref<void(const Product&)> finish) {
  int64_t factors = gated ? 2 : 1, threads = parallel_threads();
  int64_t panels = (outputs + panel_width - 1) / panel_width;
  int64_t blocks = (rows * factors + most_rows - 1) / most_rows;
  // With few panels, the rows are divided, too, so that all threads get equal work.
  if (panels < 4 * threads) {
    int64_t even = threads / std::gcd(panels, threads);
    blocks = std::max(blocks, std::min((blocks + even - 1) / even * even, rows / fewest_rows));
  }
  int64_t height = (rows + blocks - 1) / blocks;
  blocks = (rows + height - 1) / height;
  int64_t panel = std::min(inputs, most_inputs) * panel_width;
  // If all inputs fit in one part, only the sums of `rows_at_once` rows are kept; else those of the whole
  // piece.
  int64_t tile = (inputs > most_inputs ? height : std::min(height, rows_at_once)) * panel_width;
  at::Tensor rooms = at::empty({std::min(threads, panels * blocks), factors * (panel + tile)}, at::kFloat);
  in_parallel(panels * blocks, 1, [&](int64_t begin, int64_t end) {
    ProductsOfThread products;
    float* own_panels = rooms.mutable_data_ptr<float>() + parallel_thread() * rooms.size(1);
    float* tiles = own_panels + factors * panel;
    for (int64_t piece = begin; piece < end; ++piece) {
      int64_t start = piece / panels * height, stop = std::min(rows, start + height);
      int64_t output = piece % panels * panel_width, width = std::min(panel_width, outputs - output);
      for (int64_t first = 0; first < inputs; first += most_inputs) {
        int64_t part = std::min(most_inputs, inputs - first);
        for (int64_t factor = 0; factor < factors; ++factor) {
          transpose_to_panels(weight + (factor * outputs + output) * inputs + first, inputs, width, part,
                              own_panels + factor * panel);
        }
        for (int64_t row = start; row < stop; row += rows_at_once) {
          int64_t count = std::min(rows_at_once, stop - row);
          float* sums = tiles + (inputs > most_inputs ? (row - start) * factors * width : 0);
          for (int64_t factor = 0; factor < factors; ++factor) {
            at::native::cpublas::brgemm(count, width, part, inputs, width, width, /*add_C=*/first > 0,
                                        x + row * inputs + first, own_panels + factor * panel,
                                        sums + factor * count * width);
          }
          if (first + part == inputs) finish({row, count, output, width, sums, sums + count * width});
        }
      }
    }
  });
}

}  // namespace torchreel
