// UMT5's encoder, which is larger than the rest of a model together. It runs layer by layer: never more than
// two layers are in memory, and of the table of embeddings only the rows of the prompts' tokens.
#pragma once

#include "networks/network.h"
#include "networks/text_encoder.h"

namespace torchreel::wan {

class UMT5 : public TextEncoder {
 public:
  explicit UMT5(Network& network) : network_(network) {}

  WeightHold hold_weights() override { return nullptr; }
  // Stage 0 is the table of embeddings, which is not placed.
  int64_t steps() const override { return static_cast<int64_t>(network_.stages()) - 1; }
  // Only real tokens are computed: padding does not change them. The rows after them are zeros.
  std::vector<Texts> encode(const std::vector<TokenLists>& batches,
                            const std::function<void()>& check) override;

 private:
  Network& network_;
};

}  // namespace torchreel::wan
