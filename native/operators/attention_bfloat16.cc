#include <ATen/native/CPUBlas.h>

#include <cmath>

#include "attention.h"
#include "packed_weight.h"

namespace torchreel {
namespace {

using at::native::cpublas::brgemm;

// Keys (S, d), `stride` numbers between them, as panels (d / 2, panel_width, 2); zeros up to the next 16.
TORCHREEL_BFLOAT16 void transpose_pairs_of_keys(const BFloat16* keys, int64_t stride, int64_t count,
                                                int64_t depth, BFloat16* panels) {
  int64_t padded = padded_to_lanes(count);
  for (int64_t key = 0; key < padded; key += lanes) {
    int64_t panel = key / panel_width * panel_width, width = std::min(panel_width, padded - panel);
    BFloat16* to = panels + panel * depth + 2 * (key - panel);
    for (int64_t i = 0; i < depth; i += 2 * lanes) {
      Floats block[lanes] = {};  // pairs of bfloat16
      for (int64_t row = 0; row < std::min(lanes, count - key); ++row) {
        std::memcpy(&block[row], static_cast<const void*>(keys + (key + row) * stride + i),
                    sizeof block[row]);
      }
      transpose(block);
      for (int64_t row = 0; row < lanes; ++row) {
        std::memcpy(static_cast<void*>(to + (i + 2 * row) * width), &block[row], sizeof block[row]);
      }
    }
  }
}

// Values (S, d), `stride` numbers between them, as panels (S / 2, panel_width, 2); zeros up to the next 16.
TORCHREEL_BFLOAT16 void pair_values(const BFloat16* values, int64_t stride, int64_t count, int64_t depth,
                                    BFloat16* panels) {
  int64_t padded = padded_to_lanes(count);
  for (int64_t panel = 0; panel < depth; panel += panel_width) {
    int64_t width = std::min(panel_width, depth - panel);
    for (int64_t row = 0; row < padded; row += 2) {
      const BFloat16* from = values + row * stride + panel;
      BFloat16* to = panels + panel * padded + row * width;
      for (int64_t i = 0; i < width; i += lanes) {
        Words first{}, second{};
        if (row < count) first = __builtin_convertvector(*reinterpret_cast<const Bits*>(from + i), Words);
        if (row + 1 < count)
          second = __builtin_convertvector(*reinterpret_cast<const Bits*>(from + stride + i), Words);
        Words pairs = first | second << 16;
        std::memcpy(static_cast<void*>(to + 2 * i), &pairs, sizeof pairs);
      }
    }
  }
}

// Of `padded` scores. Several maxima at a time, as each comparison waits for the one before.
TORCHREEL_INLINE float largest_of_row(const float* scores, int64_t padded) {
  constexpr int64_t at_a_time = 4;
  Floats most[at_a_time];
  for (Floats& each : most) each = load(scores);
  int64_t i = lanes;
  for (; i + at_a_time * lanes <= padded; i += at_a_time * lanes) {
    for (int64_t j = 0; j < at_a_time; ++j) {
      Floats score = load(scores + i + j * lanes);
      most[j] = score > most[j] ? score : most[j];
    }
  }
  for (; i < padded; i += lanes) {
    Floats score = load(scores + i);
    most[0] = score > most[0] ? score : most[0];
  }
  for (const Floats& each : most) most[0] = each > most[0] ? each : most[0];
  return largest_of(most[0]);
}

// scores (rows, S to the next 16) become 2^(factor·(score - largest)), in bfloat16; 1 / their sum for each
// row.
TORCHREEL_BFLOAT16 void exponentiate(float* scores, int64_t rows, int64_t keys, float factor,
                                     BFloat16* weights, float* shares) {
  int64_t padded = padded_to_lanes(keys);
  for (int64_t row = 0; row < rows; ++row, scores += padded, weights += padded) {
    fill_last_scores(scores, keys);
    float largest = largest_of_row(scores, padded) * factor;
    Floats sum{};
    for (int64_t i = 0; i < padded; i += lanes) {
      Floats score = load(scores + i) * factor - largest;
      power_of_two(score);
      sum += score;
      store_fast(weights + i, score);
    }
    shares[row] = 1 / sum_of(sum);
  }
}

// y = tile·share, `stride` numbers between the rows of y.
TORCHREEL_BFLOAT16 void share_out(const float* tile, const float* shares, int64_t rows, int64_t width,
                                  BFloat16* y, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; i += lanes)
      store_fast(y + row * stride + i, load(tile + row * width + i) * shares[row]);
  }
}

// The memory of one thread: a head's keys and values in panels, and the scores of a block of its queries in
// float32 and as weights in bfloat16.
struct BFloat16Room {
  int64_t depth, keys, padded;
  float* scores;
  BFloat16 *weights, *panels_of_keys, *panels_of_values;

  BFloat16Room(float* begin, int64_t depth, int64_t keys, int64_t rows)
      : depth(depth),
        keys(keys),
        padded(padded_to_lanes(keys)),
        scores(begin),
        weights(reinterpret_cast<BFloat16*>(begin + rows * padded)),
        panels_of_keys(weights + rows * padded),
        panels_of_values(panels_of_keys + padded * depth) {}

  static int64_t floats(int64_t depth, int64_t keys, int64_t rows) {
    return padded_to_lanes(keys) * (rows + rows / 2 + 1 + depth);
  }

  void enter(const Head<BFloat16>& head) const {
    transpose_pairs_of_keys(head.keys, head.key_stride, keys, depth, panels_of_keys);
    pair_values(head.values, head.value_stride, keys, depth, panels_of_values);
  }

  void attend(const BFloat16* queries, int64_t query_stride, int64_t rows, BFloat16* output,
              int64_t output_stride) const {
    for (int64_t panel = 0; panel < padded; panel += panel_width) {
      int64_t width = std::min(panel_width, padded - panel);
      brgemm(rows, width, depth, query_stride, width, padded, /*add_C=*/false, queries,
             panels_of_keys + panel * depth, scores + panel);
    }
    float shares[most_queries], tile[most_queries * panel_width];
    constexpr float log2_e = 1.44269504f;
    exponentiate(scores, rows, keys, log2_e / std::sqrt(static_cast<float>(depth)), weights, shares);
    for (int64_t panel = 0; panel < depth; panel += panel_width) {
      int64_t width = std::min(panel_width, depth - panel);
      brgemm(rows, width, padded, padded, width, width, /*add_C=*/false, weights,
             panels_of_values + panel * padded, tile);
      share_out(tile, shares, rows, width, output + panel, output_stride);
    }
  }
};

}  // namespace

bool products_of_bfloat16_pay(int64_t sources, int64_t depth) {
  bool many = sources > (has_amx() ? lanes : most_short_keys);
  return many && depth % (2 * lanes) == 0 && sources * depth <= int64_t{1} << 20 && multiplies_bfloat16();
}

at::Tensor attention_by_products_of_bfloat16(const at::Tensor& queries, const at::Tensor& keys,
                                             const at::Tensor& values) {
  return attend_in_blocks<BFloat16Room, BFloat16>(queries, keys, values, int64_t{1} << 18);
}

}  // namespace torchreel
