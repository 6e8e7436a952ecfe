// Shared by the kernels of attention.
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>

#include "bfloat16.h"
#include "parallel.h"
#include "products.h"

namespace torchreel {

constexpr int64_t most_short_keys = 2 * lanes;

// `attention` (operators.h) for at most `most_short_keys` keys, which fit two vectors.
at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values);

// `attention` in bfloat16, where `products_of_bfloat16_pay`.
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

// The scores of one query, filled up to the next 16 with -∞, which gets no weight.
TORCHREEL_INLINE void fill_last_scores(float* scores, int64_t keys) {
  int64_t begin = padded_to_lanes(keys) - lanes;
  Floats last = load(scores + begin);
  store(scores + begin, lane_numbers < static_cast<int32_t>(keys - begin)
                            ? last
                            : Floats{} - std::numeric_limits<float>::infinity());
}

constexpr int64_t most_queries = 64;  // of a block

// `attention` in blocks of queries. work: the multiplications that are worth another thread. A Room is the
// memory of one thread, for S keys and blocks of at most `rows` queries:
//
// Room(begin, d, S, rows) uses floats(d, S, rows) numbers from `begin` on.
//
// enter(head) takes in the keys and values.
//
// attend(queries, query_stride, rows, output, output_stride) computes one block.
template <typename Room, typename Number>
at::Tensor attend_in_blocks(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                            int64_t work) {
  int64_t heads = queries.size(1), tokens = queries.size(2), depth = queries.size(3), sources = keys.size(2);
  at::Tensor output = at::empty({queries.size(0), tokens, heads, depth}, queries.options());
  // Blocks of about equal size, whose scores fit into a core's own cache.
  int64_t rows = std::clamp<int64_t>((int64_t{1} << 16) / sources, lanes, most_queries);
  int64_t blocks = (tokens + rows - 1) / rows;
  rows = (tokens + blocks - 1) / blocks;
  int64_t pieces = queries.size(0) * heads * blocks;
  int64_t grain = std::max<int64_t>(1, work / (rows * sources * depth));
  int64_t room = Room::floats(depth, sources, rows);
  at::Tensor rooms = at::empty({std::min<int64_t>(parallel_threads(), pieces), room}, at::kFloat);
  in_parallel(pieces, grain, [&](int64_t begin, int64_t end) {
    ProductsOfThread products;
    Room own(rooms.mutable_data_ptr<float>() + parallel_thread() * room, depth, sources, rows);
    for (int64_t piece = begin; piece < end; ++piece) {
      auto head = head_of<Number>(queries, keys, values, output, piece / blocks);
      if (piece == begin || piece % blocks == 0) own.enter(head);
      int64_t first = piece % blocks * rows;
      own.attend(head.queries + first * head.query_stride, head.query_stride, std::min(rows, tokens - first),
                 head.output + first * head.output_stride, head.output_stride);
    }
  });
  return output;
}

}  // namespace torchreel
