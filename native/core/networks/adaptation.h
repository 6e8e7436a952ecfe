// The changes that adapters make to a network's weights: low-rank updates (Hu et al. 2021,
// https://arxiv.org/abs/2106.09685) and rows at the end of a table of embeddings (Gal et al. 2022,
// https://arxiv.org/abs/2208.01618).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "files/safetensors.h"
#include "torchreel_core.h"

namespace torchreel {

// W + scale · up · down, with each kernel flattened: up (out, r), down (r, in · kernel). Both are mapped from
// their file.
struct LowRankUpdate {
  at::Tensor up, down;
  double scale;
};

struct WeightChange {
  std::vector<LowRankUpdate> updates;
  std::vector<at::Tensor> rows;  // each (N, D)
  std::vector<std::shared_ptr<const SafetensorsFile>> files;

  // The changed weight, float32 on the base's device, as a new tensor. Throws ERR_MODEL_CORRUPT if a file was
  // rewritten since it was mapped.
  at::Tensor apply(const at::Tensor& base) const;
};

// By the name of the weight.
using Adaptation = std::map<std::string, WeightChange>;

// Maps the files and finds the tensors. Of their numbers it reads only each update's alpha.
// Throws ERR_MODEL_CORRUPT for a broken file, ERR_MODEL_INCOMPATIBLE for one that lacks a tensor or has it in
// another type.
Adaptation read_adaptation(const torchreel_adaptation& adaptation);

}  // namespace torchreel
