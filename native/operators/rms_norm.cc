#include <ATen/ops/empty_like.h>
#include <ATen/ops/rms_norm.h>

#include <algorithm>
#include <cmath>

#include "bfloat16.h"
#include "operators.h"
#include "parallel.h"

namespace torchreel {
namespace {

// Each row of (rows, channels), in float32. channels: a multiple of 16.
template <typename Number>
TORCHREEL_INLINE void scale_rows_as(const Number* x, Number* y, int64_t rows, int64_t channels,
                                    const Number* weight, float eps) {
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    Floats squares{};
    for (int64_t i = 0; i < channels; i += lanes) {
      Floats value = load(x + i);
      squares += value * value;
    }
    float scale = 1.0f / std::sqrt(sum_of(squares) / static_cast<float>(channels) + eps);
    for (int64_t i = 0; i < channels; i += lanes) store(y + i, load(x + i) * scale * load(weight + i));
  }
}

TORCHREEL_CLONED void scale_rows(const float* x, float* y, int64_t rows, int64_t channels,
                                 const float* weight, float eps) {
  scale_rows_as(x, y, rows, channels, weight, eps);
}

TORCHREEL_CLONED void scale_rows(const BFloat16* x, BFloat16* y, int64_t rows, int64_t channels,
                                 const BFloat16* weight, float eps) {
  scale_rows_as(x, y, rows, channels, weight, eps);
}

template <typename Number>
at::Tensor rms_norm_of(const at::Tensor& x, const at::Tensor& weight, float eps) {
  int64_t channels = x.size(-1), grain = std::max<int64_t>(1, (int64_t{1} << 15) / channels);
  at::Tensor y = at::empty_like(x);
  const Number *from = x.const_data_ptr<Number>(), *gain = weight.const_data_ptr<Number>();
  Number* to = y.mutable_data_ptr<Number>();
  in_parallel(x.numel() / channels, grain, [&](int64_t begin, int64_t end) {
    scale_rows(from + begin * channels, to + begin * channels, end - begin, channels, gain, eps);
  });
  return y;
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  bool same = x.scalar_type() == weight.scalar_type() && weight.is_contiguous() && x.dim() > 0 &&
              weight.numel() == x.size(-1) && x.size(-1) % lanes == 0 && x.numel() > 0;
  if (same && x.scalar_type() == at::kFloat)
    return rms_norm_of<float>(x.contiguous(), weight, static_cast<float>(eps));
  if (same && x.scalar_type() == at::kBFloat16)
    return rms_norm_of<BFloat16>(x.contiguous(), weight, static_cast<float>(eps));
  return at::rms_norm(x, {x.size(-1)}, weight, eps);
}

}  // namespace torchreel
