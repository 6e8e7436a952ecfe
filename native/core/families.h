// The families of models: what the core needs to know of each.
#pragma once

#include <memory>
#include <string>

#include "denoising/noise.h"
#include "networks/autoencoder.h"
#include "networks/denoiser.h"
#include "networks/latent_scale.h"
#include "networks/network.h"
#include "networks/text_encoder.h"

namespace torchreel {

// What a family's networks compute in, for the dtype that the caller chose.
struct Precision {
  at::ScalarType text_encoder, denoiser, vae;
};

struct Family {
  WeightNames weight_names;
  Precision (*precision)(at::ScalarType chosen);
  NoiseLayout (*noise)(at::ScalarType chosen);
  std::unique_ptr<TextEncoder> (*make_text_encoder)(Network& network);
  std::unique_ptr<Denoiser> (*make_denoiser)(Network& network);
  std::unique_ptr<Autoencoder> (*make_autoencoder)(Network& network, const LatentScale& scale);
};

// Throws ERR_INVALID_ARGUMENT for a family that the core does not have.
const Family& family_named(const std::string& name);

}  // namespace torchreel
