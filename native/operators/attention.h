// Shared by the two kernels of attention.
#pragma once

#include <ATen/core/Tensor.h>

#include "vector_math.h"

namespace torchreel {

constexpr int64_t most_short_keys = 2 * lanes;

// `attention` (operators.h) for at most `most_short_keys` keys, which fit two vectors.
at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values);

// One head of one item; strides in floats, between tokens.
struct Head {
  const float *queries, *keys, *values;
  float* output;
  int64_t query_stride, key_stride, value_stride, output_stride;
};

// Head `index` of the N·heads. queries (N, heads, T, d), keys and values (N, heads, S, d): float32 with a
// last stride of 1. output: (N, T, heads, d), dense.
inline Head head_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                    at::Tensor& output, int64_t index) {
  int64_t item = index / queries.size(1), head = index % queries.size(1);
  auto start = [&](const at::Tensor& tensor) {
    return tensor.const_data_ptr<float>() + item * tensor.stride(0) + head * tensor.stride(1);
  };
  return {.queries = start(queries),
          .keys = start(keys),
          .values = start(values),
          .output = output.mutable_data_ptr<float>() + item * output.stride(0) + head * output.stride(2),
          .query_stride = queries.stride(2),
          .key_stride = keys.stride(2),
          .value_stride = values.stride(2),
          .output_stride = output.stride(1)};
}

}  // namespace torchreel
