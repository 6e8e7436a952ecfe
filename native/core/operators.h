// Operators that the graphs call on a CPU in float32, where libtorch's own are slow: torchreel::group_norm
// and torchreel::short_attention. models/definitions/operators.py says the same in plain PyTorch.
#pragma once

#include <ATen/core/Tensor.h>

namespace torchreel {

// Makes them known to libtorch, once per process, before a graph is loaded.
void register_operators();

// Group norm of x (N, …, C), contiguous: statistics over all positions of an item and the channels of a
// group; with `silu`, that of the result.
at::Tensor group_norm(const at::Tensor& x, int64_t groups, const at::Tensor& weight, const at::Tensor& bias,
                      double eps, bool silu);

// softmax(Q·Kᵀ/√d)·V of queries (N, heads, T, d) for few keys and values (N, heads, S, d), views whose last
// stride is 1: (N, T, heads, d).
at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values);

}  // namespace torchreel
