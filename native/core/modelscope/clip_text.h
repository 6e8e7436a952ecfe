// CLIP's text encoder. Padding counts: all L positions of a prompt are embedded and attended to.
#pragma once

#include "networks/network.h"
#include "networks/text_encoder.h"

namespace torchreel::modelscope {

class ClipText : public TextEncoder {
 public:
  explicit ClipText(Network& network) : network_(network) {}

  WeightHold hold_weights() override { return network_.place(); }
  int64_t steps() const override { return 1; }
  std::vector<Texts> encode(const std::vector<TokenLists>& batches,
                            const std::function<void()>& check) override;

 private:
  Network& network_;
};

}  // namespace torchreel::modelscope
