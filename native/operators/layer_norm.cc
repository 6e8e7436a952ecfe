#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bfloat16.h"
#include "operators.h"
#include "parallel.h"

namespace torchreel {
namespace {

// Each row of (rows, channels), in float32: first its mean, then the squares of the differences to it. C is a
// multiple of 16. wide: memory for a row, and for weight and bias in float32 after it.
TORCHREEL_CLONED void normalize_rows(const BFloat16* x, BFloat16* y, int64_t rows, int64_t channels,
                                     const BFloat16* weight, const BFloat16* bias, float eps, float* wide) {
  float *scale = wide + channels, *offset = scale + channels;
  for (int64_t i = 0; i < channels; i += lanes) {
    store(scale + i, load(weight + i));
    store(offset + i, load(bias + i));
  }
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    Floats total{}, squares{};
    for (int64_t i = 0; i < channels; i += lanes) {
      Floats value = load(x + i);
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
      store(y + i, (load(wide + i) - mean) * share * load(scale + i) + load(offset + i));
  }
}

}  // namespace

at::Tensor layer_norm(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  int64_t channels = given.size(-1);
  auto fits = [](const at::Tensor& tensor) { return tensor.scalar_type() == at::kBFloat16; };
  auto fits_channels = [&](const at::Tensor& tensor) {
    return fits(tensor) && tensor.is_contiguous() && tensor.numel() == channels;
  };
  if (!fits(given) || !fits_channels(weight) || !fits_channels(bias) || channels % lanes != 0)
    return at::layer_norm(given, {channels}, weight, bias, eps);
  at::Tensor x = given.contiguous(), y = at::empty_like(x);
  if (x.numel() == 0) return y;
  const BFloat16 *from = x.const_data_ptr<BFloat16>(), *gain = weight.const_data_ptr<BFloat16>(),
                 *base = bias.const_data_ptr<BFloat16>();
  BFloat16* to = y.mutable_data_ptr<BFloat16>();
  int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / channels);
  in_parallel(x.numel() / channels, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> wide(static_cast<size_t>(3 * channels));
    normalize_rows(from + begin * channels, to + begin * channels, end - begin, channels, gain, base,
                   static_cast<float>(eps), wide.data());
  });
  return y;
}

}  // namespace torchreel
