// Long videos: the network sees a window of frames at a time, and what it says of a frame in several windows
// is blended.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace torchreel {

// The first frames of windows of `size` frames that cover `frames`, each sharing at least `overlap` with the
// one before.
std::vector<int64_t> window_starts(int64_t frames, int64_t size, int64_t overlap);

// `network` on each window of x (B, C, F, h, w), blended frame by frame: a frame in the middle of a window
// weighs more than one at its edge, so that the blend goes over from one window to the next.
at::Tensor in_windows(const at::Tensor& x, int64_t size, int64_t overlap,
                      const std::function<at::Tensor(const at::Tensor&)>& network);

}  // namespace torchreel
