#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention.h"
#include "packed_weight.h"
#include "parallel.h"

namespace torchreel {
namespace {

// Sums at a time: the additions of one sum wait for each other. A processor that multiplies bfloat16 has
// registers for more of them.
template <typename Number>
constexpr int64_t at_a_time = 4;
template <>
constexpr int64_t at_a_time<BFloat16> = 8;

// `count` numbers, and zeros after them up to 16.
template <typename Number>
TORCHREEL_INLINE Floats load_part(const Number* from, int64_t count) {
  if (count >= lanes) return load_fast(from);
  Number numbers[lanes] = {};
  std::copy_n(from, count, numbers);
  return load_fast(numbers);
}

template <typename Number>
TORCHREEL_INLINE void store_part(Number* to, const Floats& x, int64_t count) {
  if (count >= lanes) return store_fast(to, x);
  Number numbers[lanes];
  store_fast(numbers, x);
  std::copy_n(numbers, count, to);
}

// Rows (count, d), `stride` numbers between them, become (d, 16); the last row fills the other lanes.
template <typename Number>
TORCHREEL_INLINE void transpose_to_lanes(const Number* rows, int64_t stride, int64_t count, int64_t width,
                                         float* transposed) {
  for (int64_t i = 0; i < width; i += lanes) {
    Floats block[lanes];
#pragma GCC unroll 16
    for (int64_t row = 0; row < lanes; ++row)
      block[row] = load_part(rows + std::min(row, count - 1) * stride + i, width - i);
    transpose(block);
#pragma GCC unroll 16
    for (int64_t row = 0; row < lanes; ++row) {
      if (i + row < width) store(transposed + (i + row) * lanes, block[row]);
    }
  }
}

// Items that follow each other in memory: `each` queries and `sources` keys and values of every item.
struct Items {
  int64_t queries, each, sources, width;
};

// Scores of at most 16 queries with the keys of their items. Each lane has one query, so nothing is summed
// across lanes. queries: transposed (d, 16). weights: for up to 7 more than `sources`.
template <int64_t sums>
TORCHREEL_INLINE void score(const float* queries, const float* keys, int64_t key_stride, const Items& items,
                            Floats* weights) {
  for (int64_t first = 0; first < items.queries; first += items.each, keys += items.sources * key_stride) {
    Integers own =
        lane_numbers >= static_cast<int32_t>(first);  // and those of later items, which overwrite them
    for (int64_t key = 0; key < items.sources; key += sums) {
      const float* row[sums];  // after the last key, the last one again
      for (int64_t j = 0; j < sums; ++j) row[j] = keys + std::min(key + j, items.sources - 1) * key_stride;
      Floats scores[sums] = {};
      for (int64_t i = 0; i < items.width; ++i) {
        Floats numbers = load(queries + i * lanes);
#pragma GCC unroll 8
        for (int64_t j = 0; j < sums; ++j) scores[j] += numbers * row[j][i];
      }
#pragma GCC unroll 8
      for (int64_t j = 0; j < sums; ++j) weights[key + j] = own ? scores[j] : weights[key + j];
    }
  }
}

// Scores become e^(factor·(score - largest)). Gives 1 / their sum for each lane.
TORCHREEL_INLINE Floats exponentiate(Floats* weights, int64_t keys, float factor) {
  Floats largest = Floats{} - std::numeric_limits<float>::infinity(), sum{};
  for (int64_t key = 0; key < keys; ++key) largest = weights[key] > largest ? weights[key] : largest;
  for (int64_t key = 0; key < keys; ++key) {
    weights[key] = (weights[key] - largest) * factor;
    exponential(weights[key]);
    sum += weights[key];
  }
  return 1.0f / sum;
}

// The results of at most 16 queries. weights (sources + 1, 16), shares (16)
template <int64_t sums, typename Number>
TORCHREEL_INLINE void mix(const float* weights, const float* shares, const Head<Number>& head,
                          const Items& items) {
  const Number* values = head.values;
  for (int64_t first = 0; first < items.queries;
       first += items.each, values += items.sources * head.value_stride) {
    int64_t last = std::min(first + items.each, items.queries);
    for (int64_t query = first; query < last; query += sums) {
      for (int64_t i = 0; i < items.width; i += lanes) {
        Floats mixed[sums] = {};
        for (int64_t key = 0; key < items.sources; ++key) {
          Floats value = load_part(values + key * head.value_stride + i, items.width - i);
          const float* weight = weights + key * lanes + query;
#pragma GCC unroll 8
          for (int64_t j = 0; j < sums; ++j) mixed[j] += weight[j] * value;  // after the last query, unused
        }
        Number* output = head.output + query * head.output_stride + i;
#pragma GCC unroll 8
        for (int64_t j = 0; j < sums; ++j) {
          if (query + j < last)
            store_part(output + j * head.output_stride, mixed[j] * shares[query + j], items.width - i);
        }
      }
    }
  }
}

// transposed: memory for (d, 16). Keys are float32.
template <typename Number>
TORCHREEL_INLINE void attend_by_lanes(Head<Number> head, const float* keys, int64_t key_stride, Items items,
                                      float* transposed) {
  constexpr int64_t sums = at_a_time<Number>;
  const float factor = 1.0f / std::sqrt(static_cast<float>(items.width));
  for (int64_t left = items.queries; left > 0; left -= lanes) {
    items.queries = std::min(lanes, left);
    transpose_to_lanes(head.queries, head.query_stride, items.queries, items.width, transposed);
    Floats weights[most_short_keys + 1];
    score<sums>(transposed, keys, key_stride, items, weights);
    Floats shares = exponentiate(weights, items.sources, factor);
    weights[items.sources] = Floats{};
    mix<sums>(reinterpret_cast<const float*>(weights), reinterpret_cast<const float*>(&shares), head, items);
    head.queries += lanes * head.query_stride;
    head.output += lanes * head.output_stride;
  }
}

// room: memory for (d, 16).
TORCHREEL_CLONED void attend(const Head<float>& head, const Items& items, float* room) {
  attend_by_lanes(head, head.keys, head.key_stride, items, room);
}

// room: memory for (d, 16), and for all keys.
TORCHREEL_BFLOAT16 void attend(const Head<BFloat16>& head, const Items& items, float* room) {
  int64_t count = std::max<int64_t>(1, items.queries / items.each) * items.sources, width = items.width;
  float* keys = room + width * lanes;
  for (int64_t key = 0; key < count; ++key) {
    for (int64_t i = 0; i < width; i += lanes)
      store_part(keys + key * width + i, load_part(head.keys + key * head.key_stride + i, width - i),
                 width - i);
  }
  attend_by_lanes(head, keys, width, items, room);
}

// How many items are attended as one: all their queries fit the lanes, and the tokens of one item follow
// those of another at the same distance.
int64_t items_at_a_time(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  int64_t tokens = queries.size(2);
  if (keys.size(2) != tokens) return 1;
  for (const at::Tensor* tensor : {&queries, &keys, &values}) {
    if (tensor->stride(0) != tokens * tensor->stride(2)) return 1;
  }
  return std::max<int64_t>(1, lanes / tokens);
}

template <typename Number>
at::Tensor attention_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  int64_t items = queries.size(0), heads = queries.size(1), tokens = queries.size(2), width = queries.size(3);
  int64_t sources = keys.size(2), joined = items_at_a_time(queries, keys, values);
  at::Tensor output = at::empty({items, tokens, heads, width}, queries.options());
  int64_t pieces = (items + joined - 1) / joined * heads;
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / (joined * tokens * sources * width));
  in_parallel(pieces, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> room(static_cast<size_t>(width * (lanes + joined * sources)));
    for (int64_t piece = begin; piece < end; ++piece) {
      int64_t item = piece / heads * joined, head = piece % heads;
      attend(head_of<Number>(queries, keys, values, output, item * heads + head),
             {.queries = std::min(joined, items - item) * tokens,
              .each = tokens,
              .sources = sources,
              .width = width},
             room.data());
    }
  });
  return output;
}

}  // namespace

at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  if (queries.scalar_type() == at::kFloat) return attention_of<float>(queries, keys, values);
  if (multiplies_bfloat16()) return attention_of<BFloat16>(queries, keys, values);
  // On such a processor, networks compute in bfloat16 only beside a compiled denoiser (pipeline.cc).
  auto wide = [](const at::Tensor& x) { return x.to(at::kFloat); };
  return attention_of<float>(wide(queries), wide(keys), wide(values)).to(at::kBFloat16);
}

}  // namespace torchreel
