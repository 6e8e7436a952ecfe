// ModelScope's VAE, which is Stable Diffusion's: it computes each frame by itself.
#pragma once

#include "networks/autoencoder.h"
#include "networks/latent_scale.h"
#include "networks/network.h"

namespace torchreel::modelscope {

class Vae : public Autoencoder {
 public:
  Vae(Network& network, LatentScale scale) : network_(network), scale_(std::move(scale)) {}

  int64_t count_frames(int64_t latent_frames) const override { return latent_frames; }
  WeightHold hold_weights() override { return network_.place(); }
  // Draws the latents of each of the B videos from the distribution that the VAE gives.
  at::Tensor encode(const Source& source, const Tiling& tiling, const torchreel_listener& listener) override;
  void decode(const at::Tensor& latents, const Tiling& tiling, const torchreel_listener& listener,
              const TakeFrames& take) override;

 private:
  Network& network_;
  LatentScale scale_;
};

}  // namespace torchreel::modelscope
