#include <ATen/ops/scaled_dot_product_attention.h>

#include <cmath>

#include "attention.h"
#include "operators.h"

namespace torchreel {
namespace {

// Values (S, d), `stride` floats between them, as panels (S, panel_width).
TORCHREEL_CLONED void copy_values(const float* values, int64_t stride, int64_t count, int64_t depth,
                                  float* panels) {
  for (int64_t panel = 0; panel < depth; panel += panel_width) {
    int64_t width = std::min(panel_width, depth - panel);
    for (int64_t row = 0; row < count; ++row) {
      std::memcpy(panels + panel * count + row * width, values + row * stride + panel,
                  static_cast<size_t>(width) * sizeof(float));
    }
  }
}

// scores (rows, S to the next 16) become e^(factor·(score - largest)); 1 / their sum for each row.
TORCHREEL_CLONED void exponentiate(float* scores, int64_t rows, int64_t keys, float factor, float* shares) {
  int64_t padded = padded_to_lanes(keys);
  for (int64_t row = 0; row < rows; ++row, scores += padded) {
    fill_last_scores(scores, keys);
    Floats most = load(scores);
    for (int64_t i = lanes; i < padded; i += lanes) {
      Floats score = load(scores + i);
      most = score > most ? score : most;
    }
    float largest = largest_of(most);
    Floats sum{};
    for (int64_t i = 0; i < padded; i += lanes) {
      Floats score = (load(scores + i) - largest) * factor;
      exponential(score);
      sum += score;
      *reinterpret_cast<Floats*>(scores + i) = score;
    }
    shares[row] = 1 / sum_of(sum);
  }
}

// y = tile·share, `stride` floats between the rows of y.
TORCHREEL_CLONED void share_out(const float* tile, const float* shares, int64_t rows, int64_t width, float* y,
                                int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; i += lanes) {
      *reinterpret_cast<Floats*>(y + row * stride + i) =
          *reinterpret_cast<const Floats*>(tile + row * width + i) * shares[row];
    }
  }
}

// The memory of one thread: a head's keys and values in panels, and the scores of a block of its queries.
struct Room {
  int64_t depth, keys, padded;
  float *transposed_keys, *copied_values, *scores;

  Room(float* begin, int64_t depth, int64_t keys, int64_t /*rows*/)
      : depth(depth),
        keys(keys),
        padded(padded_to_lanes(keys)),
        transposed_keys(begin),
        copied_values(transposed_keys + padded * depth),
        scores(copied_values + keys * depth) {}

  static int64_t floats(int64_t depth, int64_t keys, int64_t rows) {
    return padded_to_lanes(keys) * (depth + rows) + keys * depth;
  }

  void enter(const Head<float>& head) const {
    transpose_to_panels(head.keys, head.key_stride, keys, depth, transposed_keys);
    copy_values(head.values, head.value_stride, keys, depth, copied_values);
  }

  void attend(const float* queries, int64_t query_stride, int64_t rows, float* output,
              int64_t output_stride) const {
    using at::native::cpublas::brgemm;
    for (int64_t panel = 0; panel < padded; panel += panel_width) {
      int64_t width = std::min(panel_width, padded - panel);
      brgemm(rows, width, depth, query_stride, width, padded, /*add_C=*/false, queries,
             transposed_keys + panel * depth, scores + panel);
    }
    float shares[most_queries], tile[most_queries * panel_width];
    exponentiate(scores, rows, keys, 1.0f / std::sqrt(static_cast<float>(depth)), shares);
    for (int64_t panel = 0; panel < depth; panel += panel_width) {
      int64_t width = std::min(panel_width, depth - panel);
      brgemm(rows, width, keys, padded, width, width, /*add_C=*/false, scores, copied_values + panel * keys,
             tile);
      share_out(tile, shares, rows, width, output + panel, output_stride);
    }
  }
};

at::Tensor attention_by_products(const at::Tensor& queries, const at::Tensor& keys,
                                 const at::Tensor& values) {
  return attend_in_blocks<Room, float>(queries, keys, values, int64_t{1} << 17);
}

// Each thread copies the keys and values of a head to its own memory.
bool products_pay(int64_t sources, int64_t depth) {
  return depth % lanes == 0 && sources * depth <= int64_t{1} << 19 && has_products<float>();
}

}  // namespace

at::Tensor attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  for (const at::Tensor* tensor : {&queries, &keys, &values}) {
    TORCH_CHECK(tensor->dim() == 4 && tensor->stride(3) == 1 &&
                    (tensor->scalar_type() == at::kFloat || tensor->scalar_type() == at::kBFloat16),
                "attention takes float32 or bfloat16 (N, heads, tokens, d), whose last stride is 1");
    TORCH_CHECK(tensor->stride(2) >= tensor->size(3) || tensor->size(2) <= 1,
                "attention takes tokens that do not overlap");
    TORCH_CHECK(tensor->scalar_type() == queries.scalar_type() && tensor->size(0) == queries.size(0) &&
                    tensor->size(1) == queries.size(1) && tensor->size(3) == queries.size(3) &&
                    tensor->size(2) == (tensor == &queries ? *tensor : keys).size(2),
                "attention takes queries, keys and values that fit each other");
  }
  int64_t sources = keys.size(2);
  TORCH_CHECK(sources > 0, "attention takes one key or more");
  if (queries.numel() == 0) return queries.transpose(1, 2).contiguous();
  if (queries.scalar_type() == at::kBFloat16 && products_of_bfloat16_pay(sources, queries.size(3)))
    return attention_by_products_of_bfloat16(queries, keys, values);
  if (sources <= most_short_keys) return short_attention(queries, keys, values);
  if (queries.scalar_type() == at::kFloat && products_pay(sources, queries.size(3)))
    return attention_by_products(queries, keys, values);
  return at::scaled_dot_product_attention(queries, keys, values).transpose(1, 2).contiguous();
}

}  // namespace torchreel
