// The network that denoises, as the loop sees it. Each family of models has its own, such as modelscope/unet.
// CompiledDenoiser and RecordedDenoiser wrap another denoiser and run its step in their own way.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <array>
#include <optional>

#include "networks/weight_hold.h"

namespace torchreel {

// s1, s2, b1, b2: factors of the skips and inputs of a UNet's first two up blocks (Si et al. 2023,
// https://arxiv.org/abs/2309.11497). No value: off.
using FreeU = std::optional<std::array<double, 4>>;

// DeepCache (Ma et al. 2023, https://arxiv.org/abs/2312.00858): of `interval` calls the first computes all
// blocks and leaves here the input of the last up block. The others compute the outermost blocks and reuse
// it. One for all calls on the same frames.
struct FeatureCache {
  int64_t interval = 1;
  at::Tensor feature = {};  // (G, F, h, w, C); undefined: none yet
  size_t depth = 0;         // of the stages' stack with the feature on top
  int64_t uses = 0;         // calls since the one that computed it
};

// Options of a step that not every denoiser has. One that lacks an option throws ERR_INVALID_ARGUMENT.
struct StepOptions {
  FreeU freeu = {};
  FeatureCache* cache = nullptr;  // null: every call computes all blocks
};

class Denoiser {
 public:
  virtual ~Denoiser() = default;

  // Places all weights. One hold at a time: it also keeps what is bound to the addresses of the weights.
  // A denoiser whose weights are not held places those of each stage when it needs them, if it has stages.
  virtual WeightHold hold_weights() = 0;

  // text: (G, L, D). Gives the context of `forward`, a list of tensors (G, …). Once per prompt.
  virtual c10::IValue prepare(const at::Tensor& text) = 0;

  // x: (B, C, F, h, w) in the network's dtype. time: scalar float32. context: of G = B or 2·B texts.
  // Gives (G, C, F, h, w).
  virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                             const StepOptions& options) = 0;
};

// G of a context. A context without tensors has one text for each video of x.
inline int64_t count_texts(const c10::IValue& context, const at::Tensor& x) {
  c10::List<at::Tensor> tensors = context.toTensorList();
  return tensors.empty() ? x.size(0) : tensors.get(0).size(0);
}

}  // namespace torchreel
