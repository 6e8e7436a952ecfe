// The network that embeds prompts, as a job sees it. Each family of models has its own, such as
// modelscope/clip_text.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "networks/weight_hold.h"

namespace torchreel {

// P prompts as the denoiser takes them.
struct Texts {
  at::Tensor embeddings;              // (P, L, D), on the device
  std::vector<int64_t> lengths = {};  // rows of each prompt that are real, L at most; the others are zeros
  int64_t positions = 0;              // rows that the model was trained with: those past L are zeros too
};

// P prompts as token ids.
struct TokenLists {
  at::Tensor ids;                // (P, L) int64, on the host
  std::vector<int64_t> lengths;  // tokens of each prompt before the padding
  int64_t clip_skip;             // last layers to skip
};

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;

  // Places all weights, or none where the encoder runs layer by layer and places each when it needs it.
  virtual WeightHold hold_weights() = 0;

  // How many steps of progress `encode` takes: its stages where it runs layer by layer, else 1.
  virtual int64_t steps() const = 0;

  // Embeds several batches of prompts at once, so that each weight is placed once. `check` is called before
  // each stage and may throw. The device may still be computing the result.
  virtual std::vector<Texts> encode(const std::vector<TokenLists>& batches,
                                    const std::function<void()>& check) = 0;
};

}  // namespace torchreel
