#include "process/product_rate.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>

namespace torchreel {

double measure_product_rate(at::ScalarType dtype) {
  c10::InferenceMode inference;
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  constexpr int64_t size = 768;
  at::Tensor a = at::randn({size, size}).to(dtype), b = at::randn({size, size}).to(dtype);
  double best = 0;
  auto begun = Clock::now();
  for (int round = 0; round < 16 && Seconds(Clock::now() - begun).count() < 0.3; ++round) {
    auto started = Clock::now();
    at::mm(a, b);
    best = std::max(best, 2.0 * size * size * size / Seconds(Clock::now() - started).count());
  }
  return best;
}

}  // namespace torchreel
