// Classifier-free guidance (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598):
//
//     output = ε(negative) + scale · (ε(prompt) − ε(negative)).
//
// A call with a scale above 1 needs the pair of texts, any other call the prompts alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "networks/denoiser.h"

namespace torchreel {

class Guidance {
 public:
  // texts: the embeddings (B, L, D) of the prompts and, for guidance, those of the negative prompts. scales:
  // one for each call, ignored without guidance; they must outlive this. Prepares the contexts that the calls
  // need.
  Guidance(Denoiser& denoiser, const std::vector<at::Tensor>& texts, std::span<const double> scales);

  // What the denoiser gets in a call.
  const c10::IValue& context(int64_t call) const { return needs_pair(call) ? pair_ : alone_; }
  // The guided output (B, …) of the denoiser's output (B, …) or (2·B, …) in a call.
  at::Tensor combine(const at::Tensor& output, int64_t call) const;

 private:
  bool needs_pair(int64_t call) const { return !scales_.empty() && scales_[static_cast<size_t>(call)] > 1; }

  std::span<const double> scales_;  // empty: no guidance
  c10::IValue alone_, pair_;        // None where no call needs it
};

}  // namespace torchreel
