#include "modelscope/clip_text.h"

namespace torchreel::modelscope {

std::vector<Texts> ClipText::encode(const std::vector<TokenLists>& batches,
                                    const std::function<void()>& check) {
  WeightHold hold = network_.place();
  std::vector<Texts> texts;
  for (const TokenLists& batch : batches) {
    check();
    at::Tensor embeddings =
        network_.call("forward", {batch.ids.to(network_.device()), batch.clip_skip}).toTensor();
    texts.push_back({embeddings, batch.lengths, embeddings.size(1)});
  }
  return texts;
}

}  // namespace torchreel::modelscope
