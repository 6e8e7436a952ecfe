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

size_t count_windows(int64_t frames, int64_t size, int64_t overlap) {
  return size == 0 || size >= frames ? 1 : window_starts(frames, size, overlap).size();
}

at::Tensor in_windows(const at::Tensor& x, int64_t size, int64_t overlap,
                      const std::function<at::Tensor(const at::Tensor&, size_t window)>& network) {
  int64_t frames = x.size(2);
  if (count_windows(frames, size, overlap) == 1) return network(x, 0);

  // 1, 2, 3 … 3, 2, 1
  at::Tensor ramp = at::arange(1, size + 1, x.options());
  at::Tensor weights = at::minimum(ramp, ramp.flip(0)).view({1, 1, size, 1, 1});
  at::Tensor sum = at::zeros_like(x);
  at::Tensor total = at::zeros({1, 1, frames, 1, 1}, x.options());
  std::vector<int64_t> starts = window_starts(frames, size, overlap);
  for (size_t window = 0; window < starts.size(); ++window) {
    int64_t start = starts[window];
    at::Tensor output = network(x.narrow(2, start, size).contiguous(), window);
    sum.narrow(2, start, size).add_(output * weights);
    total.narrow(2, start, size).add_(weights);
  }
  return sum / total;
}

}  // namespace torchreel
