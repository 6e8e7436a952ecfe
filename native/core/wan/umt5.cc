#include "wan/umt5.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "process/error.h"

namespace torchreel::wan {
namespace {

// The embeddings (P, L, D) of one batch, from its rows (T, D), one prompt after the other. L is that of the
// longest prompt.
at::Tensor pad(const at::Tensor& rows, const std::vector<int64_t>& lengths) {
  at::Tensor padded =
      at::zeros({static_cast<int64_t>(lengths.size()), *std::ranges::max_element(lengths), rows.size(1)},
                rows.options());
  int64_t first = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    padded[static_cast<int64_t>(i)].narrow(0, 0, lengths[i]).copy_(rows.narrow(0, first, lengths[i]));
    first += lengths[i];
  }
  return padded;
}

}  // namespace

std::vector<Texts> UMT5::encode(const std::vector<TokenLists>& batches, const std::function<void()>& check) {
  std::vector<at::Tensor> real_ids;
  c10::List<int64_t> lengths;
  for (const TokenLists& batch : batches) {
    if (batch.clip_skip != 0) throw invalid_argument("this text encoder has no clipSkip");
    for (size_t i = 0; i < batch.lengths.size(); ++i) {
      real_ids.push_back(batch.ids[static_cast<int64_t>(i)].narrow(0, 0, batch.lengths[i]));
      lengths.push_back(batch.lengths[i]);
    }
  }
  c10::List<at::Tensor> state({network_.gather_rows("shared.weight", at::cat(real_ids))});

  // Stage 0 is the table of embeddings. On the CPU nothing is gained by placing a layer ahead of its turn.
  const bool ahead = !network_.device().is_cpu();
  WeightHold hold;
  for (size_t stage = 1; stage < network_.stages(); ++stage) {
    check();
    if (!hold) hold = network_.place(stage);
    network_.call("run_stage", {static_cast<int64_t>(stage), state, lengths});
    WeightHold next = ahead && stage + 1 < network_.stages() ? network_.place(stage + 1) : nullptr;
    hold = std::move(next);
    network_.drop_pages();
  }

  at::Tensor rows = state.get(0);
  std::vector<Texts> texts;
  int64_t first = 0;
  for (const TokenLists& batch : batches) {
    int64_t count = 0;
    for (int64_t length : batch.lengths) count += length;
    texts.push_back({pad(rows.narrow(0, first, count), batch.lengths), batch.lengths, batch.ids.size(1)});
    first += count;
  }
  return texts;
}

}  // namespace torchreel::wan
