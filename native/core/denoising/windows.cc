#include "denoising/windows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "process/error.h"

namespace torchreel {

std::vector<int64_t> window_starts(int64_t frames, int64_t size, int64_t overlap) {
  if (size < 1 || overlap < 0 || overlap >= size)
    throw invalid_argument("a window must be longer than its overlap");
  std::vector<int64_t> starts{0};
  while (starts.back() + size < frames)
    starts.push_back(std::min(starts.back() + size - overlap, frames - size));
  return starts;
}

at::Tensor in_windows(const at::Tensor& x, int64_t size, int64_t overlap,
                      const std::function<at::Tensor(const at::Tensor&)>& network) {
  int64_t frames = x.size(2);
  if (size == 0 || size >= frames) return network(x);

  // 1, 2, 3 … 3, 2, 1
  at::Tensor ramp = at::arange(1, size + 1, x.options());
  at::Tensor weights = at::minimum(ramp, ramp.flip(0)).view({1, 1, size, 1, 1});
  at::Tensor sum = at::zeros_like(x);
  at::Tensor total = at::zeros({1, 1, frames, 1, 1}, x.options());
  for (int64_t start : window_starts(frames, size, overlap)) {
    at::Tensor output = network(x.narrow(2, start, size).contiguous());
    sum.narrow(2, start, size).add_(output * weights);
    total.narrow(2, start, size).add_(weights);
  }
  return sum / total;
}

}  // namespace torchreel
