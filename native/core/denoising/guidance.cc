#include "denoising/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>

#include <algorithm>
#include <string>

#include "process/error.h"

namespace torchreel {
namespace {

// Both lists as one, each prompt with as many rows as the longest has.
Texts join(const Texts& first, const Texts& second) {
  if (first.positions != second.positions) {
    throw invalid_argument("promptEmbeds and negativePromptEmbeds must have the same number of tokens, got " +
                           std::to_string(second.positions) + " and " + std::to_string(first.positions));
  }
  int64_t rows = std::max(first.embeddings.size(1), second.embeddings.size(1));
  auto padded = [&](const at::Tensor& x) { return at::constant_pad_nd(x, {0, 0, 0, rows - x.size(1)}); };
  Texts both{at::cat({padded(first.embeddings), padded(second.embeddings)}), first.lengths, first.positions};
  both.lengths.insert(both.lengths.end(), second.lengths.begin(), second.lengths.end());
  return both;
}

}  // namespace

Guidance::Guidance(Denoiser& denoiser, const std::vector<Texts>& texts, std::span<const double> scales) {
  if (texts.size() == 2) scales_ = scales;
  auto guided = [](double scale) { return scale > 1; };
  if (scales_.empty() || !std::ranges::all_of(scales_, guided)) alone_ = denoiser.prepare(texts[0]);
  if (std::ranges::any_of(scales_, guided)) pair_ = denoiser.prepare(join(texts[1], texts[0]));
}

at::Tensor Guidance::combine(const at::Tensor& output, int64_t call) const {
  if (!needs_pair(call)) return output;
  auto halves = output.chunk(2);  // negative, prompts
  return halves[0] + scales_[static_cast<size_t>(call)] * (halves[1] - halves[0]);
}

}  // namespace torchreel
