// The VAE of one job. float16 has no number above 65504 and some VAEs make such between layers: once a result
// is not finite, it is computed again in float32, and so is the rest of the job.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "networks/network.h"
#include "torchreel_core.h"

namespace torchreel {

class Vae {
 public:
  Vae(Network& network, at::ScalarType dtype, const torchreel_listener& listener)
      : network_(network), dtype_(dtype), listener_(listener), shares_(network.place()) {}

  // An image (1, 3, H, W) in [-1, 1] to mean and log variance (1, 2·C, h, w), float32
  at::Tensor encode(const at::Tensor& image);
  // Latents (N, C, h, w) to images (N, 3, H, W) in about [-1, 1], float32
  at::Tensor decode(const at::Tensor& latents);

 private:
  template <typename Compute>
  at::Tensor in_range(Compute&& compute);

  Network& network_;
  at::ScalarType dtype_;
  const torchreel_listener& listener_;
  std::vector<Network::Share> shares_, wide_;  // wide_: float32, on top
};

}  // namespace torchreel
