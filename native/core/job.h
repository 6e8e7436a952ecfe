// One call of `generate` while it runs.
#pragma once

#include "denoising/noise.h"
#include "denoising/program.h"
#include "torchreel_core.h"

namespace torchreel {

struct Job {
  const torchreel_request& request;
  const torchreel_listener& listener;
  at::ScalarType dtype;  // that the networks compute in
  Program program;
  NoiseSource noise;
};

}  // namespace torchreel
