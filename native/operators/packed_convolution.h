// Convolutions in bfloat16 with packed weights (packed_weight.h), summed in float32. The operators of the
// same names (operators.h) call them.
#pragma once

#include <ATen/core/Tensor.h>

namespace torchreel {

// x (N, H, W, C), of whose pixels each is taken twice in both directions if `doubled`: (N, height, width, O).
at::Tensor convolve_3x3_packed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                               int64_t height, int64_t width, bool doubled);

// The same by Winograd's filtering (winograd.h): fewer products, but their factors are rounded once more.
at::Tensor packed_winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           int64_t height, int64_t width, bool doubled);
bool packed_winograd_pays(int64_t tiles, int64_t channels);

// x (B, F, P, C); adds to sum (B, F, P, O), or gives a new tensor if there is none.
at::Tensor convolve_frames_packed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                  const at::Tensor& sum = {});

}  // namespace torchreel
