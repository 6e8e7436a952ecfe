#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bfloat16.h"
#include "operators.h"
#include "packed_weight.h"
#include "parallel.h"

namespace torchreel {
namespace {

// Each row of (rows, channels), in float32: first its mean, then the squares of the differences to it.
// channels: a multiple of 16. wide: memory for a row, and for weight and bias in float32 after it.
template <typename Number>
TORCHREEL_INLINE void normalize_rows_as(const Number* x, Number* y, int64_t rows, int64_t channels,
                                        const Number* weight, const Number* bias, float eps, float* wide) {
  float *scale = wide + channels, *offset = scale + channels;
  for (int64_t i = 0; i < channels; i += lanes) {
    store(scale + i, load_fast(weight + i));
    store(offset + i, load_fast(bias + i));
  }
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    Floats total{}, squares{};
    for (int64_t i = 0; i < channels; i += lanes) {
      Floats value = load_fast(x + i);
      store(wide + i, value);
      total += value;
    }
    float mean = sum_of(total) / static_cast<float>(channels);
    for (int64_t i = 0; i < channels; i += lanes) {
      Floats difference = load(wide + i) - mean;
      squares += difference * difference;
    }
    float share = 1.0f / std::sqrt(sum_of(squares) / static_cast<float>(channels) + eps);
    for (int64_t i = 0; i < channels; i += lanes)
      store_fast(y + i, (load(wide + i) - mean) * share * load(scale + i) + load(offset + i));
  }
}

TORCHREEL_CLONED void normalize_rows(const float* x, float* y, int64_t rows, int64_t channels,
                                     const float* weight, const float* bias, float eps, float* wide) {
  normalize_rows_as(x, y, rows, channels, weight, bias, eps, wide);
}

TORCHREEL_BFLOAT16 void normalize_rows(const BFloat16* x, BFloat16* y, int64_t rows, int64_t channels,
                                       const BFloat16* weight, const BFloat16* bias, float eps, float* wide) {
  normalize_rows_as(x, y, rows, channels, weight, bias, eps, wide);
}

template <typename Number>
at::Tensor layer_norm_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, float eps) {
  int64_t channels = x.size(-1), grain = std::max<int64_t>(1, (int64_t{1} << 15) / channels);
  at::Tensor y = at::empty_like(x);
  const Number *from = x.const_data_ptr<Number>(), *gain = weight.const_data_ptr<Number>(),
               *base = bias.const_data_ptr<Number>();
  Number* to = y.mutable_data_ptr<Number>();
  in_parallel(x.numel() / channels, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> wide(static_cast<size_t>(3 * channels));
    normalize_rows(from + begin * channels, to + begin * channels, end - begin, channels, gain, base, eps,
                   wide.data());
  });
  return y;
}

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  int64_t channels = x.size(-1);
  auto fits = [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == x.scalar_type() && tensor.is_contiguous() && tensor.numel() == channels;
  };
  if (fits(weight) && fits(bias) && channels % lanes == 0 && x.numel() > 0) {
    if (x.scalar_type() == at::kFloat)
      return layer_norm_of<float>(x.contiguous(), weight, bias, static_cast<float>(eps));
    if (x.scalar_type() == at::kBFloat16 && multiplies_bfloat16())
      return layer_norm_of<BFloat16>(x.contiguous(), weight, bias, static_cast<float>(eps));
  }
  return at::layer_norm(x, {channels}, weight, bias, eps);
}

}  // namespace torchreel
