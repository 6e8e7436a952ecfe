#include "denoising/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <algorithm>

namespace torchreel {

Guidance::Guidance(Denoiser& denoiser, const at::Tensor& prompts, const at::Tensor& negative,
                   std::span<const double> scales) {
  if (negative.defined()) scales_ = scales;
  auto guided = [](double scale) { return scale > 1; };
  if (scales_.empty() || !std::ranges::all_of(scales_, guided)) alone_ = denoiser.prepare(prompts);
  if (std::ranges::any_of(scales_, guided)) pair_ = denoiser.prepare(at::cat({negative, prompts}));
}

at::Tensor Guidance::combine(const at::Tensor& output, int64_t call) const {
  if (!needs_pair(call)) return output;
  auto halves = output.chunk(2);  // negative, prompts
  return halves[0] + scales_[static_cast<size_t>(call)] * (halves[1] - halves[0]);
}

}  // namespace torchreel
