#include "networks/latent_scale.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>

#include <cmath>

#include "process/error.h"

namespace torchreel {
namespace {

// Applies `change(channel, index)` to each channel. With numbers instead of tensors of scales, because on
// CUDA libtorch rounds a division by a tensor otherwise than one by a number.
template <typename Change>
at::Tensor each_channel(const at::Tensor& x, Change&& change) {
  std::vector<at::Tensor> channels;
  for (int64_t index = 0; index < x.size(1); ++index) channels.push_back(change(x.select(1, index), index));
  return at::stack(channels, 1);
}

}  // namespace

LatentScale::LatentScale(std::vector<double> scale, std::vector<double> mean)
    : scale_(std::move(scale)), mean_(std::move(mean)) {
  if (scale_.empty() || scale_.size() != mean_.size())
    throw invalid_argument("latentScale and latentMean need one number for each channel of the latents");
  for (double scale : scale_) {
    if (!(std::isfinite(scale) && scale != 0)) throw invalid_argument("latentScale must not be 0");
  }
}

at::Tensor LatentScale::normalize(const at::Tensor& z) const {
  return each_channel(z, [&](const at::Tensor& x, int64_t c) { return (x - mean_.at(c)) * scale_.at(c); });
}

at::Tensor LatentScale::denormalize(const at::Tensor& latents) const {
  return each_channel(latents,
                      [&](const at::Tensor& x, int64_t c) { return x / scale_.at(c) + mean_.at(c); });
}

}  // namespace torchreel
