#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention.h"
#include "parallel.h"

namespace torchreel {
namespace {

constexpr int64_t rows_at_a_time = 4;

// For S keys in `vectors`·16 lanes. transposed (d, vectors·16) and values (S, d to the next multiple of 16):
// room for copies, zero where they are padded.
template <int64_t vectors>
TORCHREEL_INLINE void attend_padded(const Head& head, int64_t queries, int64_t keys, int64_t width,
                                    float* transposed, float* values) {
  constexpr int64_t padded = vectors * lanes;
  for (int64_t key = 0; key < keys; ++key) {
    for (int64_t i = 0; i < width; ++i) transposed[i * padded + key] = head.keys[key * head.key_stride + i];
  }
  int64_t value_stride = head.value_stride, padded_width = padded_to_lanes(width);
  const float* source = head.values;
  if (padded_width != width) {
    for (int64_t key = 0; key < keys; ++key) {
      for (int64_t i = 0; i < width; ++i) values[key * padded_width + i] = source[key * value_stride + i];
    }
    source = values;
    value_stride = padded_width;
  }
  Floats hidden[vectors];  // -∞ where there is no key
  for (int64_t key = 0; key < padded; ++key) {
    hidden[key / lanes][key % lanes] = key < keys ? 0.0f : -std::numeric_limits<float>::infinity();
  }
  const float factor = 1.0f / std::sqrt(static_cast<float>(width));

  for (int64_t first = 0; first < queries; first += rows_at_a_time) {
    // Rows past the last are the last again.
    const float* query[rows_at_a_time];
    for (int64_t row = 0; row < rows_at_a_time; ++row) {
      query[row] = head.queries + std::min(first + row, queries - 1) * head.query_stride;
    }
    Floats scores[rows_at_a_time][vectors] = {};
    for (int64_t i = 0; i < width; ++i) {
      const Floats* key = reinterpret_cast<const Floats*>(transposed + i * padded);
      for (int64_t row = 0; row < rows_at_a_time; ++row) {
        for (int64_t vector = 0; vector < vectors; ++vector)
          scores[row][vector] += query[row][i] * key[vector];
      }
    }

    float weights[rows_at_a_time][padded];
    for (int64_t row = 0; row < rows_at_a_time; ++row) {
      float largest = -std::numeric_limits<float>::infinity(), sum = 0;
      for (int64_t vector = 0; vector < vectors; ++vector) {
        scores[row][vector] += hidden[vector];
        largest = std::max(largest, largest_of(scores[row][vector]));
      }
      for (int64_t vector = 0; vector < vectors; ++vector) {
        scores[row][vector] = (scores[row][vector] - largest) * factor;
        exponential(scores[row][vector]);
        sum += sum_of(scores[row][vector]);
      }
      for (int64_t vector = 0; vector < vectors; ++vector) scores[row][vector] /= sum;
      std::memcpy(weights[row], scores[row], sizeof weights[row]);
    }

    int64_t rows = std::min(rows_at_a_time, queries - first);
    for (int64_t i = 0; i < width; i += lanes) {
      Floats mixed[rows_at_a_time] = {};
      for (int64_t key = 0; key < keys; ++key) {
        Floats value = *reinterpret_cast<const Floats*>(source + key * value_stride + i);
        for (int64_t row = 0; row < rows_at_a_time; ++row) mixed[row] += weights[row][key] * value;
      }
      for (int64_t row = 0; row < rows; ++row) {
        float* output = head.output + (first + row) * head.output_stride + i;
        if (i + lanes <= width) {
          *reinterpret_cast<Floats*>(output) = mixed[row];
        } else {
          std::memcpy(output, &mixed[row], static_cast<size_t>(width - i) * sizeof(float));
        }
      }
    }
  }
}

TORCHREEL_CLONED void attend(const Head& head, int64_t queries, int64_t keys, int64_t width,
                             float* transposed, float* values) {
  if (keys <= lanes) return attend_padded<1>(head, queries, keys, width, transposed, values);
  attend_padded<2>(head, queries, keys, width, transposed, values);
}

}  // namespace

at::Tensor short_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  int64_t items = queries.size(0), heads = queries.size(1), tokens = queries.size(2), width = queries.size(3);
  int64_t sources = keys.size(2);
  at::Tensor output = at::empty({items, tokens, heads, width}, queries.options());
  if (output.numel() == 0) return output;
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / (tokens * sources * width));
  in_parallel(items * heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> transposed(static_cast<size_t>(width * most_short_keys));
    std::vector<float> padded(static_cast<size_t>((width + lanes) * sources));
    for (int64_t piece = begin; piece < end; ++piece) {
      attend(head_of(queries, keys, values, output, piece), tokens, sources, width, transposed.data(),
             padded.data());
    }
  });
  return output;
}

}  // namespace torchreel
