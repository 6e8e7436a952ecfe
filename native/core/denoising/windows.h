// Long videos: the network sees a window of frames at a time, and its outputs for a frame of several windows
// are blended.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace torchreel {

// The first frames of windows of `size` frames that cover `frames`, each sharing at least `overlap` with the
// one before.
std::vector<int64_t> window_starts(int64_t frames, int64_t size, int64_t overlap);

// How many windows `in_windows` makes. size 0: one window of all frames.
size_t count_windows(int64_t frames, int64_t size, int64_t overlap);

// `network` on each window of x (B, C, F, h, w), with the window's number from 0, blended frame by frame: a
// frame in the middle of a window weighs more than one at its edge, so that one window passes into the next.
at::Tensor in_windows(const at::Tensor& x, int64_t size, int64_t overlap,
                      const std::function<at::Tensor(const at::Tensor&, size_t window)>& network);

}  // namespace torchreel
