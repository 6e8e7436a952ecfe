// Prompts to embeddings. The embeddings of the last lists of prompts are cached.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <functional>
#include <vector>

#include "networks/network.h"
#include "torchreel_core.h"

namespace torchreel {

class TextEncoder {
 public:
  explicit TextEncoder(Network& network) : network_(network) {}

  // A list of P prompts.
  struct Prompts {
    int64_t count;  // P
    const torchreel_text& text;
  };
  // Embeddings (P, L, D) of each list, in the network's dtype on the device. All lists are given at once, so
  // that the weights are placed once. `queued` is called when the device has all of the work, but may not be
  // done. Throws ERR_NUMERIC.
  std::vector<at::Tensor> embed(const std::vector<Prompts>& lists, const std::function<void()>& queued);

  // To be called when the weights change.
  void clear_cache() { cache_.clear(); }

 private:
  struct CachedEmbeddings {
    std::vector<int32_t> tokens;  // (P, L)
    int64_t prompts, clip_skip;   // P
    at::Tensor embeddings;
  };

  // The embeddings that the caller gave, those of the cache, or new ones.
  at::Tensor embed_list(const Prompts& prompts);
  // Null where the cache has none.
  const at::Tensor* find_embeddings(const Prompts& prompts) const;
  void cache_embeddings(const Prompts& prompts, const at::Tensor& embeddings);

  Network& network_;
  std::deque<CachedEmbeddings> cache_;  // the latest first
};

}  // namespace torchreel
