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
// 16), which holds the queries and then their results.
TORCHREEL_CLONED void attend(const Head& head, int64_t queries, int64_t keys, int64_t width,
                             float* transposed) {
  const float factor = 1.0f / std::sqrt(static_cast<float>(width));
  int64_t whole = width / lanes * lanes;
  for (int64_t first = 0; first < queries; first += lanes) {
    int64_t rows = std::min(lanes, queries - first);
    const float* query = head.queries + first * head.query_stride;
    for (int64_t i = 0; i < whole; i += lanes) {
      Floats block[lanes] = {};
      for (int64_t row = 0; row < rows; ++row) {
        block[row] = *reinterpret_cast<const Floats*>(query + row * head.query_stride + i);
      }
      transpose(block);
      std::memcpy(transposed + i * lanes, block, sizeof block);
    }
    for (int64_t i = whole; i < width; ++i) {
      for (int64_t row = 0; row < lanes; ++row) {
        transposed[i * lanes + row] = row < rows ? query[row * head.query_stride + i] : 0.0f;
      }
    }

    Floats weights[most_short_keys], largest = Floats{} - std::numeric_limits<float>::infinity();
    for (int64_t key = 0; key < keys; key += at_a_time) {
      const float* row[at_a_time];  // after the last key, the last one again
      for (int64_t j = 0; j < at_a_time; ++j)
        row[j] = head.keys + std::min(key + j, keys - 1) * head.key_stride;
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
        const float* value = head.values + key * head.value_stride;
        for (int64_t j = 0; j < at_a_time; ++j) mixed[j] += weights[key] * value[column[j]];
      }
      for (int64_t j = 0; j < at_a_time; ++j) {
        *reinterpret_cast<Floats*>(transposed + column[j] * lanes) = mixed[j] * share;
      }
    }
    float* output = head.output + first * head.output_stride;
    for (int64_t i = 0; i < whole; i += lanes) {
      Floats block[lanes];
      std::memcpy(block, transposed + i * lanes, sizeof block);
      transpose(block);
      for (int64_t row = 0; row < rows; ++row) {
        *reinterpret_cast<Floats*>(output + row * head.output_stride + i) = block[row];
      }
    }
    for (int64_t i = whole; i < width; ++i) {
      for (int64_t row = 0; row < rows; ++row) {
        output[row * head.output_stride + i] = transposed[i * lanes + row];
      }
    }
  }
}

}  // namespace

at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  int64_t items = queries.size(0), heads = queries.size(1), tokens = queries.size(2), width = queries.size(3);
  int64_t sources = keys.size(2);
  at::Tensor output = at::empty({items, tokens, heads, width}, queries.options());
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / (tokens * sources * width));
  in_parallel(items * heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> transposed(static_cast<size_t>(width * lanes));
    for (int64_t piece = begin; piece < end; ++piece) {
      attend(head_of(queries, keys, values, output, piece), tokens, sources, width, transposed.data());
    }
  });
  return output;
}

}  // namespace torchreel
