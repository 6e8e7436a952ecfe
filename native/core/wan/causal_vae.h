// Wan's VAE. It computes a video in time's order: the first frame alone, then four frames for each further
// latent frame. Its convolutions look back, so it keeps some frames of each layer from one call to the next.
#pragma once

#include "networks/autoencoder.h"
#include "networks/latent_scale.h"
#include "networks/network.h"

namespace torchreel::wan {

class CausalVae : public Autoencoder {
 public:
  CausalVae(Network& network, LatentScale scale) : network_(network), scale_(std::move(scale)) {}

  int64_t count_frames(int64_t latent_frames) const override;
  WeightHold hold_weights() override { return network_.place(); }
  // The mode of the distribution that the VAE gives, (1, C, f, h, w): nothing is drawn.
  at::Tensor encode(const Source& source, const Tiling& tiling, const torchreel_listener& listener) override;
  // In one piece, frames come as they are decoded. Each tile goes through the whole video by itself, so with
  // tiles the frames of a video come together.
  void decode(const at::Tensor& latents, const Tiling& tiling, const torchreel_listener& listener,
              const TakeFrames& take) override;

 private:
  Network& network_;
  LatentScale scale_;
};

}  // namespace torchreel::wan
