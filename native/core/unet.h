// The network that denoises, run stage by stage, so that a device need not hold all of its weights at once.
#pragma once

#include <array>
#include <optional>

#include "network.h"

namespace torchreel {

// s1, s2, b1, b2
using FreeU = std::optional<std::array<double, 4>>;

class UNet {
 public:
  explicit UNet(Network& network) : network_(network) {}

  // text: (G, L, D). Gives what `forward` takes as its context: once per prompt.
  c10::IValue prepare(const at::Tensor& text);

  // x: (B, C, F, h, w); time: scalar float32; context for G = B or 2·B texts. Gives (G, C, F, h, w).
  // At each stage its weights are placed, and those of the next while the device computes it; whoever holds
  // shares of all stages spares the copies.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                     const FreeU& freeu);

 private:
  Network& network_;
};

}  // namespace torchreel
