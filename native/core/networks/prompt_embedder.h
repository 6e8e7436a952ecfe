// Prompts of a job to embeddings: those that the caller gave, those of the cache, or the text encoder's.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <functional>
#include <vector>

#include "networks/network.h"
#include "networks/text_encoder.h"
#include "torchreel_core.h"

namespace torchreel {

class PromptEmbedder {
 public:
  // `encoder` runs `network`. Embeddings are converted to `dtype`, which the denoiser computes in.
  PromptEmbedder(TextEncoder& encoder, Network& network, at::ScalarType dtype)
      : encoder_(encoder), network_(network), dtype_(dtype) {}

  // A list of P prompts.
  struct Prompts {
    int64_t count;  // P
    const torchreel_text& text;
  };
  // Embeddings of each list. All lists are given at once, so that each weight is placed once. `check` is
  // called before each stage of the encoder and may throw; `on_submitted` is called when the device has all
  // of the work, but may not be done. Throws ERR_NUMERIC.
  std::vector<Texts> embed(const std::vector<Prompts>& lists, const std::function<void()>& check,
                           const std::function<void()>& on_submitted);

  // To be called when the weights change.
  void clear_cache() { cache_.clear(); }

 private:
  // The last lists of prompts.
  struct CachedTexts {
    std::vector<int32_t> tokens;  // (P, L)
    int64_t prompts, clip_skip;   // P
    Texts texts;
  };

  Texts read_embeddings(const Prompts& prompts) const;
  // Null where the cache has none.
  const Texts* find_texts(const Prompts& prompts) const;
  void cache_texts(const Prompts& prompts, const Texts& texts);

  TextEncoder& encoder_;
  Network& network_;
  at::ScalarType dtype_;
  std::deque<CachedTexts> cache_;  // the latest first
};

}  // namespace torchreel
