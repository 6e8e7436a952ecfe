#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bfloat16.h"
#include "operators.h"
#include "packed_weight.h"
#include "parallel.h"

namespace torchreel {
namespace {

constexpr int64_t vectors_of_row = 4;  // read at a time, so that whole lines of the cache are used

// `sum_moments` for the next `vectors` vectors of channels.
template <int64_t vectors, typename Number>
TORCHREEL_INLINE void sum_moments_of(const Number* x, int64_t rows, int64_t channels, const Number* shift,
                                     float* sum, float* square) {
  Floats begin[vectors], total[vectors] = {}, squares[vectors] = {};
  for (int64_t i = 0; i < vectors; ++i) begin[i] = load_fast(shift + i * lanes);
  for (int64_t row = 0; row < rows; ++row, x += channels) {
    for (int64_t i = 0; i < vectors; ++i) {
      Floats difference = load_fast(x + i * lanes) - begin[i];
      total[i] += difference;
      squares[i] += difference * difference;
    }
  }
  for (int64_t i = 0; i < vectors; ++i) {
    store(sum + i * lanes, total[i]);
    store(square + i * lanes, squares[i]);
  }
}

// Σ(x - shift) and Σ(x - shift)² over the rows of (rows, channels), for each channel.
template <typename Number>
TORCHREEL_INLINE void sum_moments(const Number* x, int64_t rows, int64_t channels, const Number* shift,
                                  float* sum, float* square) {
  int64_t first = 0;
  for (; first + vectors_of_row * lanes <= channels; first += vectors_of_row * lanes)
    sum_moments_of<vectors_of_row>(x + first, rows, channels, shift + first, sum + first, square + first);
  for (; first + lanes <= channels; first += lanes)
    sum_moments_of<1>(x + first, rows, channels, shift + first, sum + first, square + first);
  for (; first < channels; ++first) {
    float total = 0, squares = 0;
    for (int64_t row = 0; row < rows; ++row) {
      float difference = static_cast<float>(x[row * channels + first]) - static_cast<float>(shift[first]);
      total += difference;
      squares += difference * difference;
    }
    sum[first] = total;
    square[first] = squares;
  }
}

TORCHREEL_CLONED void moments(const float* x, int64_t rows, int64_t channels, const float* shift, float* sum,
                              float* square) {
  sum_moments(x, rows, channels, shift, sum, square);
}

TORCHREEL_BFLOAT16 void moments(const BFloat16* x, int64_t rows, int64_t channels, const BFloat16* shift,
                                float* sum, float* square) {
  sum_moments(x, rows, channels, shift, sum, square);
}

TORCHREEL_INLINE void activate(Floats& x, float /*precision*/) {
  Floats decay = -x;
  exponential(decay);
  x /= decay + 1.0f;
}

TORCHREEL_INLINE void activate(Floats& x, BFloat16 /*precision*/) {
  Floats decay = x * -1.44269504f;
  power_of_two(decay);
  x *= reciprocal(decay + 1.0f);
}

// y = x·scale + offset for each row of (rows, channels), then SiLU.
template <bool silu, typename Number>
TORCHREEL_INLINE void scaled(const Number* x, Number* y, int64_t rows, int64_t channels, const float* scale,
                             const float* offset) {
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    int64_t first = 0;
    for (; first + lanes <= channels; first += lanes) {
      Floats value = load_fast(x + first) * load(scale + first) + load(offset + first);
      if (silu) activate(value, Number{});
      store_fast(y + first, value);
    }
    if (first == channels) continue;
    Floats value{};
    for (int64_t i = first; i < channels; ++i)
      value[i - first] = static_cast<float>(x[i]) * scale[i] + offset[i];
    if (silu) activate(value, Number{});
    for (int64_t i = first; i < channels; ++i) y[i] = static_cast<Number>(value[i - first]);
  }
}

TORCHREEL_CLONED void normalize(const float* x, float* y, int64_t rows, int64_t channels, const float* scale,
                                const float* offset, bool silu) {
  if (silu)
    scaled<true>(x, y, rows, channels, scale, offset);
  else
    scaled<false>(x, y, rows, channels, scale, offset);
}

TORCHREEL_BFLOAT16 void normalize(const BFloat16* x, BFloat16* y, int64_t rows, int64_t channels,
                                  const float* scale, const float* offset, bool silu) {
  if (silu)
    scaled<true>(x, y, rows, channels, scale, offset);
  else
    scaled<false>(x, y, rows, channels, scale, offset);
}

template <typename Number>
at::Tensor normalized(const at::Tensor& given, int64_t groups, const at::Tensor& weight,
                      const at::Tensor& bias, double eps, bool silu) {
  at::Tensor x = given.contiguous();
  if (x.numel() == 0) return x;
  int64_t items = x.size(0), channels = x.size(-1), rows = x.numel() / (items * channels);
  at::Tensor y = at::empty_like(x);
  const Number *from = x.const_data_ptr<Number>(), *gain = weight.const_data_ptr<Number>(),
               *base = bias.const_data_ptr<Number>();
  Number* to = y.mutable_data_ptr<Number>();

  // Rows that fit into a core's own cache are summed in float, and those sums in double.
  int64_t chunk = std::clamp<int64_t>((int64_t{1} << 15) / channels, 16, rows < 16 ? 16 : rows);
  int64_t chunks = (rows + chunk - 1) / chunk;
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / (chunk * channels));
  auto rows_of = [&](int64_t piece) {
    int64_t first = piece % chunks * chunk;
    return std::pair(piece / chunks * rows + first, std::min(chunk, rows - first));
  };

  std::vector<float> sums(static_cast<size_t>(items * chunks * 2 * channels));
  in_parallel(items * chunks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      auto [first, count] = rows_of(piece);
      float* sum = sums.data() + piece * 2 * channels;
      const Number* shift = from + piece / chunks * rows * channels;  // its first row: near the mean
      moments(from + first * channels, count, channels, shift, sum, sum + channels);
    }
  });

  std::vector<float> scales(static_cast<size_t>(items * 2 * channels));
  int64_t width = channels / groups;
  for (int64_t item = 0; item < items; ++item) {
    const Number* shift = from + item * rows * channels;
    const float* sum = sums.data() + item * chunks * 2 * channels;
    float *scale = scales.data() + item * 2 * channels, *offset = scale + channels;
    for (int64_t group = 0; group < groups; ++group) {
      double total = 0, squares = 0, center = static_cast<float>(shift[group * width]);
      for (int64_t channel = group * width; channel < (group + 1) * width; ++channel) {
        double difference = 0, square = 0;
        for (int64_t part = 0; part < chunks; ++part) {
          difference += sum[part * 2 * channels + channel];
          square += sum[(part * 2 + 1) * channels + channel];
        }
        // Σ(x - center)² = Σ(x - shift)² + 2·moved·Σ(x - shift) + n·moved²
        double moved = static_cast<float>(shift[channel]) - center;
        total += difference + static_cast<double>(rows) * moved;
        squares += square + 2 * moved * difference + static_cast<double>(rows) * moved * moved;
      }
      double count = static_cast<double>(rows * width), mean = total / count;
      double deviation = std::sqrt(std::max(0.0, squares / count - mean * mean) + eps);
      for (int64_t channel = group * width; channel < (group + 1) * width; ++channel) {
        double factor = static_cast<float>(gain[channel]) / deviation;
        scale[channel] = static_cast<float>(factor);
        offset[channel] = static_cast<float>(static_cast<float>(base[channel]) - (center + mean) * factor);
      }
    }
  }

  in_parallel(items * chunks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      auto [first, count] = rows_of(piece);
      const float* scale = scales.data() + piece / chunks * 2 * channels;
      normalize(from + first * channels, to + first * channels, count, channels, scale, scale + channels,
                silu);
    }
  });
  return y;
}

}  // namespace

at::Tensor group_norm(const at::Tensor& given, int64_t groups, const at::Tensor& weight,
                      const at::Tensor& bias, double eps, bool silu) {
  TORCH_CHECK(given.dim() >= 2 &&
                  (given.scalar_type() == at::kFloat || given.scalar_type() == at::kBFloat16) && groups > 0 &&
                  given.size(-1) % groups == 0,
              "group_norm takes float32 or bfloat16 (N, …, C) and a number of groups that divides C");
  TORCH_CHECK(weight.is_contiguous() && weight.scalar_type() == given.scalar_type() &&
                  weight.numel() == given.size(-1) && bias.is_contiguous() &&
                  bias.scalar_type() == given.scalar_type() && bias.numel() == given.size(-1),
              "group_norm takes a weight and bias (C) of the same type");
  if (given.scalar_type() == at::kFloat) return normalized<float>(given, groups, weight, bias, eps, silu);
  if (multiplies_bfloat16()) return normalized<BFloat16>(given, groups, weight, bias, eps, silu);
  // On such a processor, networks compute in bfloat16 only beside a compiled denoiser (pipeline.cc).
  auto wide = [](const at::Tensor& x) { return x.to(at::kFloat); };
  return normalized<float>(wide(given), groups, wide(weight), wide(bias), eps, silu).to(at::kBFloat16);
}

}  // namespace torchreel
