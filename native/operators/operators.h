// Operators that the graphs call on a CPU in float32 and bfloat16, where libtorch's own are slow or do more
// work than necessary. Weights in bfloat16 may be packed (packed_weight.h). models/definitions/operators.py
// defines the same in plain PyTorch.
#pragma once

#include <ATen/core/Tensor.h>

namespace torchreel {

// Group norm of x (N, …, C), contiguous. The statistics are over all positions of an item and the channels of
// a group. With `silu`, SiLU of the result.
at::Tensor group_norm(const at::Tensor& x, int64_t groups, const at::Tensor& weight, const at::Tensor& bias,
                      double eps, bool silu);

// softmax(Q·Kᵀ/√d)·V of queries (N, heads, T, d), keys and values (N, heads, S, d), which are views with a
// last stride of 1. Gives (N, T, heads, d).
at::Tensor attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values);

// 3 × 3 convolution of x (N, H, W, C), padded by one pixel, with weight (O, C, 3, 3). Gives (N, H, W, O).
at::Tensor convolve_3x3(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// The same of x with each pixel doubled in both directions and cropped to (height, width): 2·H or 2·H - 1,
// 2·W or 2·W - 1.
at::Tensor upsample_and_convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 int64_t height, int64_t width);

// Convolution over three frames of x (B, F, P, C), padded by one frame, with weight (O, C, 3, 1, 1). Gives
// (B, F, P, O).
at::Tensor convolve_frames(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Adds the same to a contiguous sum (B, F, P, O), which shares no memory with x.
void add_convolve_frames(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias);

// Layer norm of x (…, C).
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

// x / √(mean(x²) + eps)·weight over the last axis of (…, C).
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// x·Wᵀ + b for x (…, C) and weight (O, C).
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias);

// sum += x·Wᵀ + b for sum (…, O), which shares no memory with x.
void add_linear(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& weight,
                const std::optional<at::Tensor>& bias);

// gelu(x·Wᵀ + b), with gelu's approximation by tanh.
at::Tensor linear_gelu_tanh(const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias);

// (x·W₁ᵀ + b₁)·gelu(x·W₂ᵀ + b₂) for x (…, C) and weight (2·O, C), W₁ over W₂, with the exact gelu.
at::Tensor gated_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace torchreel
