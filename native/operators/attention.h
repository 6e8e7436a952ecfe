// Shared by the kernels of attention.
#pragma once

#include <ATen/core/Tensor.h>

#include "bfloat16.h"

namespace torchreel {

constexpr int64_t most_short_keys = 2 * lanes;

// `attention` (operators.h) for at most `most_short_keys` keys, which fit two vectors.
at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values);

// `attention` of more keys in bfloat16, where `products_of_bfloat16_pay`.
at::Tensor attention_by_products_of_bfloat16(const at::Tensor& queries, const at::Tensor& keys,
                                             const at::Tensor& values);
bool products_of_bfloat16_pay(int64_t sources, int64_t depth);

// One head of one item; strides in numbers, between tokens.
template <typename Number>
struct Head {
  const Number *queries, *keys, *values;
  Number* output;
  int64_t query_stride, key_stride, value_stride, output_stride;
};

// Head `index` of the N·heads. queries (N, heads, T, d), keys and values (N, heads, S, d): of type Number,
// with a last stride of 1. output: (N, T, heads, d), dense.
template <typename Number>
Head<Number> head_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                     at::Tensor& output, int64_t index) {
  int64_t item = index / queries.size(1), head = index % queries.size(1);
  auto start = [&](const at::Tensor& tensor) {
    return tensor.const_data_ptr<Number>() + item * tensor.stride(0) + head * tensor.stride(1);
  };
  return {.queries = start(queries),
          .keys = start(keys),
          .values = start(values),
          .output = output.mutable_data_ptr<Number>() + item * output.stride(0) + head * output.stride(2),
          .query_stride = queries.stride(2),
          .key_stride = keys.stride(2),
          .value_stride = values.stride(2),
          .output_stride = output.stride(1)};
}

}  // namespace torchreel
