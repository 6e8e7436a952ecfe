#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "operators.h"
#include "parallel.h"
#include "vector_math.h"

namespace torchreel {
namespace {

constexpr int64_t most_keys = 2 * lanes;
constexpr int64_t rows_at_a_time = 4;

// One head of one sequence; strides in floats, between tokens.
struct Head {
  const float *queries, *keys, *values;
  float* output;
  int64_t query_stride, key_stride, value_stride, output_stride;
};

TORCHREEL_INLINE float largest_of(const Floats& x) {
  float half[lanes];
  std::memcpy(half, &x, sizeof half);
  for (int64_t width = lanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) half[i] = std::max(half[i], half[i + width]);
  }
  return half[0];
}

TORCHREEL_INLINE float sum_of(const Floats& x) {
  float half[lanes];
  std::memcpy(half, &x, sizeof half);
  for (int64_t width = lanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) half[i] += half[i + width];
  }
  return half[0];
}

// For S keys in `vectors`·16 lanes. transposed (d, vectors·16) and values (S, d to the next multiple of 16):
// room for copies, zero where they are padded.
template <int64_t vectors>
TORCHREEL_INLINE void attend_padded(const Head& head, int64_t queries, int64_t keys, int64_t width,
                                    float* transposed, float* values) {
  constexpr int64_t padded = vectors * lanes;
  for (int64_t key = 0; key < keys; ++key) {
    for (int64_t i = 0; i < width; ++i) transposed[i * padded + key] = head.keys[key * head.key_stride + i];
  }
  int64_t value_stride = head.value_stride, padded_width = (width + lanes - 1) / lanes * lanes;
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
  for (const at::Tensor* tensor : {&queries, &keys, &values}) {
    TORCH_CHECK(tensor->dim() == 4 && tensor->scalar_type() == at::kFloat && tensor->stride(3) == 1,
                "short_attention takes float32 (N, heads, tokens, d), whose last stride is 1");
    TORCH_CHECK(tensor->size(0) == queries.size(0) && tensor->size(1) == queries.size(1) &&
                    tensor->size(3) == queries.size(3) &&
                    tensor->size(2) == (tensor == &queries ? *tensor : keys).size(2),
                "short_attention takes queries, keys and values that fit each other");
  }
  int64_t items = queries.size(0), heads = queries.size(1), tokens = queries.size(2), width = queries.size(3);
  int64_t sources = keys.size(2);
  TORCH_CHECK(sources > 0 && sources <= most_keys, "short_attention takes 1 to ", most_keys, " keys");
  at::Tensor output = at::empty({items, tokens, heads, width}, queries.options());
  if (output.numel() == 0) return output;
  const float *query = queries.const_data_ptr<float>(), *key = keys.const_data_ptr<float>(),
              *value = values.const_data_ptr<float>();
  float* to = output.mutable_data_ptr<float>();
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / (tokens * sources * width));
  in_parallel(items * heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> transposed(static_cast<size_t>(width * most_keys));
    std::vector<float> padded(static_cast<size_t>((width + lanes) * sources));
    for (int64_t piece = begin; piece < end; ++piece) {
      int64_t item = piece / heads, head = piece % heads;
      attend({.queries = query + item * queries.stride(0) + head * queries.stride(1),
              .keys = key + item * keys.stride(0) + head * keys.stride(1),
              .values = value + item * values.stride(0) + head * values.stride(1),
              .output = to + (item * tokens * heads + head) * width,
              .query_stride = queries.stride(2),
              .key_stride = keys.stride(2),
              .value_stride = values.stride(2),
              .output_stride = heads * width},
             tokens, sources, width, transposed.data(), padded.data());
    }
  });
  return output;
}

}  // namespace torchreel
