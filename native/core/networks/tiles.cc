#include "networks/tiles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <vector>

#include "process/error.h"

namespace torchreel {
namespace {

// `tile` with its first `extent` rows (dimension 2) or columns (3) blended with the last of `before`.
at::Tensor blended(const at::Tensor& before, const at::Tensor& tile, int64_t dimension, int64_t extent) {
  extent = std::min({extent, before.size(dimension), tile.size(dimension)});
  std::vector<int64_t> shape{1, 1, 1, 1};
  shape[dimension] = extent;
  at::Tensor weight = at::arange(extent, tile.options()).div_(static_cast<double>(extent)).view(shape);
  at::Tensor from = before.narrow(dimension, before.size(dimension) - extent, extent);
  at::Tensor to = tile.narrow(dimension, 0, extent);
  at::Tensor rest = tile.narrow(dimension, extent, tile.size(dimension) - extent);
  return at::cat({from * (1 - weight) + to * weight, rest}, dimension);
}

}  // namespace

at::Tensor in_tiles(const at::Tensor& x, int64_t size, int64_t overlap,
                    const std::function<at::Tensor(const at::Tensor&)>& network) {
  int64_t height = x.size(2), width = x.size(3);
  if (size == 0 || (height <= size && width <= size)) return network(x);
  if (overlap < 0 || overlap >= size) throw invalid_argument("a tile must be larger than its overlap");

  int64_t stride = size - overlap;
  std::vector<at::Tensor> rows, above;
  for (int64_t top = 0; top < height; top += stride) {
    std::vector<at::Tensor> row, kept;
    for (int64_t left = 0; left < width; left += stride) {
      at::Tensor piece = x.slice(2, top, top + size).slice(3, left, left + size).contiguous();
      at::Tensor tile = network(piece);
      auto scaled = [&](int64_t pixels) { return pixels * tile.size(2) / piece.size(2); };
      if (top > 0) tile = blended(above[row.size()], tile, 2, scaled(overlap));
      if (left > 0) tile = blended(row.back(), tile, 3, scaled(overlap));
      kept.push_back(tile.slice(2, 0, scaled(stride)).slice(3, 0, scaled(stride)));
      row.push_back(tile);
    }
    rows.push_back(at::cat(kept, 3));
    above = std::move(row);
  }
  return at::cat(rows, 2);
}

}  // namespace torchreel
