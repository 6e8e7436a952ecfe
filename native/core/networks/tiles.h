// Images that are larger than the VAE was trained on, or than memory allows, in tiles that overlap and are
// blended.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace torchreel {

// Runs `network` on x (N, C, h, w) in squares of `size` that share `overlap` with the one before them, both
// in pixels of x. The network's output may have another scale. It is blended in the overlap, from the tile
// above (left) to the tile below (right), with weights that rise linearly from 0. x stays in one piece if
// size is 0 or x fits into one tile.
at::Tensor in_tiles(const at::Tensor& x, int64_t size, int64_t overlap,
                    const std::function<at::Tensor(const at::Tensor&)>& network);

}  // namespace torchreel
