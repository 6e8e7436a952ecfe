// What tests of attention compare with.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include <cmath>

// softmax(Q·Kᵀ/√d)·V in double precision: of queries (N, heads, T, d), keys and values (N, heads, S, d), as
// (N, T, heads, d).
inline at::Tensor attended(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  auto wide = [](const at::Tensor& x) { return x.to(at::kDouble); };
  at::Tensor scores = at::matmul(wide(queries), wide(keys).transpose(2, 3));
  at::Tensor weights = at::softmax(scores / std::sqrt(static_cast<double>(queries.size(3))), 3);
  return at::matmul(weights, wide(values)).transpose(1, 2);
}
