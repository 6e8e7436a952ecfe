// The network that denoises, run stage by stage, so that a device need not hold all of its weights at once.
#pragma once

#include <array>
#include <optional>

#include "networks/compiled_denoiser.h"
#include "networks/network.h"

namespace torchreel {

// s1, s2, b1, b2
using FreeU = std::optional<std::array<double, 4>>;

// What the last up block started from in an earlier call: DeepCache's feature (Ma et al. 2023,
// https://arxiv.org/abs/2312.00858).
struct FeatureCache {
  at::Tensor feature;  // (G, F, h, w, C); undefined: none
  size_t depth = 0;    // of the stages' stack with the feature on top
  int64_t uses = 0;    // calls since the one that computed it
};

class UNet {
 public:
  // compiled: null, or what `forward` runs in place of the stages, with weights of the network.
  explicit UNet(Network& network, CompiledDenoiser* compiled = nullptr)
      : network_(network), compiled_(compiled) {}

  // text: (G, L, D). Gives what `forward` takes as its context: once per prompt.
  c10::IValue prepare(const at::Tensor& text);

  // x: (B, C, F, h, w); time: scalar float32; context for G = B or 2·B texts. Gives (G, C, F, h, w).
  // At each stage its weights are placed, and those of the next while the device computes it; whoever holds
  // shares of all stages spares the copies.
  // cache: null, or what the call leaves there for later ones, if `reuse` is not set. If it is, only the
  // outermost blocks are computed, between which the feature stands; it must come from a call with the same
  // shape of x and the same G. What is compiled has no stages: it takes neither freeu nor a cache.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                     const FreeU& freeu, FeatureCache* cache = nullptr, bool reuse = false);

 private:
  Network& network_;
  CompiledDenoiser* compiled_;
};

}  // namespace torchreel
