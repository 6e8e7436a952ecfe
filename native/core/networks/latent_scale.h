// The denoiser sees the autoencoder's latents z as (z − mean) · scale, with a mean and a scale for each
// channel.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace torchreel {

class LatentScale {
 public:
  // C numbers each.
  LatentScale(std::vector<double> scale, std::vector<double> mean);

  int64_t channels() const { return static_cast<int64_t>(scale_.size()); }

  // (z − mean) · scale of z (B, C, F, h, w)
  at::Tensor normalize(const at::Tensor& z) const;
  // latents / scale + mean of latents (B, C, F, h, w)
  at::Tensor denormalize(const at::Tensor& latents) const;

 private:
  std::vector<double> scale_, mean_;
};

}  // namespace torchreel
