// Images larger than the VAE was trained on, or than memory takes, in tiles that overlap and are blended.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace torchreel {

// Runs `network` on x (N, C, h, w) in squares of `size` that share `overlap` with the one before them; both
// in x's pixels. What the network gives may have another scale: the overlap is blended in that, from the tile
// above (left) to the tile below (right) by weights that rise linearly from 0. A size of 0, or one that x
// fits into, means one piece.
at::Tensor in_tiles(const at::Tensor& x, int64_t size, int64_t overlap,
                    const std::function<at::Tensor(const at::Tensor&)>& network);

}  // namespace torchreel
