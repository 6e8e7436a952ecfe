#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention.h"
#include "parallel.h"

namespace torchreel {
namespace {

constexpr int64_t at_a_time = 4;  // sums at a time: the additions of one sum wait for each other
static_assert(most_short_keys % at_a_time == 0);

// 16 queries at a time, one in each lane, so that nothing is summed across lanes. transposed: memory for (d,
// 16), which holds the queries and then their results. Keys and values are float32.
template <typename Number>
TORCHREEL_INLINE void attend_by_lanes(const Head<Number>& head, const float* all_keys, int64_t key_stride,
                                      const float* values, int64_t value_stride, int64_t queries,
                                      int64_t keys, int64_t width, float* transposed) {
  const float factor = 1.0f / std::sqrt(static_cast<float>(width));
  int64_t whole = width / lanes * lanes;
  for (int64_t first = 0; first < queries; first += lanes) {
    int64_t rows = std::min(lanes, queries - first);
    const Number* query = head.queries + first * head.query_stride;
    for (int64_t i = 0; i < whole; i += lanes) {
      Floats block[lanes] = {};
      for (int64_t row = 0; row < rows; ++row) {
        block[row] = load(query + row * head.query_stride + i);
      }
      transpose(block);
      std::memcpy(transposed + i * lanes, block, sizeof block);
    }
    for (int64_t i = whole; i < width; ++i) {
      for (int64_t row = 0; row < lanes; ++row) {
        transposed[i * lanes + row] =
            row < rows ? static_cast<float>(query[row * head.query_stride + i]) : 0.0f;
      }
    }

    Floats weights[most_short_keys], largest = Floats{} - std::numeric_limits<float>::infinity();
    for (int64_t key = 0; key < keys; key += at_a_time) {
      const float* row[at_a_time];  // after the last key, the last one again
      for (int64_t j = 0; j < at_a_time; ++j) row[j] = all_keys + std::min(key + j, keys - 1) * key_stride;
      Floats scores[at_a_time] = {};
      for (int64_t i = 0; i < width; ++i) {
        Floats numbers = *reinterpret_cast<const Floats*>(transposed + i * lanes);
        for (int64_t j = 0; j < at_a_time; ++j) scores[j] += numbers * row[j][i];
      }
      for (int64_t j = 0; j < at_a_time; ++j) {
        weights[key + j] = scores[j];
        largest = scores[j] > largest ? scores[j] : largest;
      }
    }
    Floats sum{};
    for (int64_t key = 0; key < keys; ++key) {
      weights[key] = (weights[key] - largest) * factor;
      exponential(weights[key]);
      sum += weights[key];
    }
    Floats share = 1.0f / sum;

    for (int64_t i = 0; i < width; i += at_a_time) {
      Floats mixed[at_a_time] = {};
      int64_t column[at_a_time];
      for (int64_t j = 0; j < at_a_time; ++j) column[j] = std::min(i + j, width - 1);
      for (int64_t key = 0; key < keys; ++key) {
        const float* value = values + key * value_stride;
        for (int64_t j = 0; j < at_a_time; ++j) mixed[j] += weights[key] * value[column[j]];
      }
      for (int64_t j = 0; j < at_a_time; ++j) {
        *reinterpret_cast<Floats*>(transposed + column[j] * lanes) = mixed[j] * share;
      }
    }
    Number* output = head.output + first * head.output_stride;
    for (int64_t i = 0; i < whole; i += lanes) {
      Floats block[lanes];
      std::memcpy(block, transposed + i * lanes, sizeof block);
      transpose(block);
      for (int64_t row = 0; row < rows; ++row) {
        store(output + row * head.output_stride + i, block[row]);
      }
    }
    for (int64_t i = whole; i < width; ++i) {
      for (int64_t row = 0; row < rows; ++row) {
        output[row * head.output_stride + i] = static_cast<Number>(transposed[i * lanes + row]);
      }
    }
  }
}

// room: memory for (d, 16).
TORCHREEL_CLONED void attend(const Head<float>& head, int64_t queries, int64_t keys, int64_t width,
                             float* room) {
  attend_by_lanes(head, head.keys, head.key_stride, head.values, head.value_stride, queries, keys, width,
                  room);
}

TORCHREEL_INLINE void widen(const BFloat16* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  for (int64_t row = 0; row < rows; ++row, from += stride, to += width) {
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes) store(to + i, load(from + i));
    for (; i < width; ++i) to[i] = static_cast<float>(from[i]);
  }
}

// room: memory for (d, 16), and for keys and values (S, d).
TORCHREEL_CLONED void attend(const Head<BFloat16>& head, int64_t queries, int64_t keys, int64_t width,
                             float* room) {
  float *wide_keys = room + width * lanes, *wide_values = wide_keys + keys * width;
  widen(head.keys, head.key_stride, keys, width, wide_keys);
  widen(head.values, head.value_stride, keys, width, wide_values);
  attend_by_lanes(head, wide_keys, width, wide_values, width, queries, keys, width, room);
}

template <typename Number>
at::Tensor attention_of(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  int64_t items = queries.size(0), heads = queries.size(1), tokens = queries.size(2), width = queries.size(3);
  int64_t sources = keys.size(2);
  at::Tensor output = at::empty({items, tokens, heads, width}, queries.options());
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / (tokens * sources * width));
  in_parallel(items * heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> room(static_cast<size_t>(width * (lanes + 2 * sources)));
    for (int64_t piece = begin; piece < end; ++piece) {
      attend(head_of<Number>(queries, keys, values, output, piece), tokens, sources, width, room.data());
    }
  });
  return output;
}

}  // namespace

at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  return (queries.scalar_type() == at::kFloat ? attention_of<float> : attention_of<BFloat16>)(queries, keys,
                                                                                              values);
}

}  // namespace torchreel
