// The families of models: what the core needs to know of each.
#pragma once

#include <memory>
#include <string>

#include "networks/autoencoder.h"
#include "networks/denoiser.h"
#include "networks/latent_scale.h"
#include "networks/network.h"

namespace torchreel {

struct Family {
  WeightNames weight_names;
  std::unique_ptr<Denoiser> (*make_denoiser)(Network& network);
  std::unique_ptr<Autoencoder> (*make_autoencoder)(Network& network, const LatentScale& scale);
};

// Throws ERR_INVALID_ARGUMENT for a family that the core does not have.
const Family& family_named(const std::string& name);

}  // namespace torchreel
