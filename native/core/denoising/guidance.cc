#include "denoising/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <algorithm>

namespace torchreel {

Guidance::Guidance(Denoiser& denoiser, const std::vector<at::Tensor>& texts, std::span<const double> scales) {
  if (texts.size() == 2) scales_ = scales;
  auto guided = [](double scale) { return scale > 1; };
  if (scales_.empty() || !std::ranges::all_of(scales_, guided)) alone_ = denoiser.prepare(texts[0]);
  if (std::ranges::any_of(scales_, guided)) pair_ = denoiser.prepare(at::cat({texts[1], texts[0]}));
}

at::Tensor Guidance::combine(const at::Tensor& output, int64_t call) const {
  if (!needs_pair(call)) return output;
  auto halves = output.chunk(2);  // negative, prompts
  return halves[0] + scales_[static_cast<size_t>(call)] * (halves[1] - halves[0]);
}

}  // namespace torchreel
