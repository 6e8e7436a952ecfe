// Noise: torch's numbers, in the reference's order and layout.
#include "denoising/noise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include "check.h"

using torchreel::cpu_generator;
using torchreel::NoiseSource;

int main() {
  // torch.randn(4, generator=torch.Generator().manual_seed(0))
  at::Tensor known = at::tensor({1.5409961f, -0.2934289f, -2.1787894f, 0.5684313f});
  check(at::allclose(at::randn({4}, cpu_generator(0), at::kFloat), known), "torch's numbers for seed 0");

  at::Generator generator = cpu_generator(7);
  at::Tensor first = at::randn({2, 4, 3, 5, 6}, generator, at::kFloat);
  at::Tensor second = at::randn({2 * 3, 4, 5, 6}, generator, at::kFloat);
  NoiseSource one({7}, 2, {at::kFloat, true});
  check(at::equal(one.initial(4, 3, 5, 6), first), "initial latents are drawn as (B, C, F, h, w)");
  check(at::equal(one.step(4, 3, 5, 6), second.view({2, 3, 4, 5, 6}).transpose(1, 2)),
        "steps as (B·F, C, h, w)");

  NoiseSource videos({7}, 2, {at::kFloat, false});
  check(at::equal(videos.initial(4, 3, 5, 6), first), "the same initial latents");
  check(at::equal(videos.step(4, 3, 5, 6), second.view({2, 4, 3, 5, 6})), "or steps as (B, C, F, h, w)");

  NoiseSource both({7, 8}, 2, {at::kFloat, true});
  at::Tensor pair = both.initial(4, 3, 5, 6);
  for (uint64_t seed : {7, 8}) {
    at::Tensor alone = NoiseSource({seed}, 1, {at::kFloat, true}).initial(4, 3, 5, 6);
    check(at::equal(pair.narrow(0, static_cast<int64_t>(seed) - 7, 1), alone),
          "each seed draws for its own video");
  }

  NoiseSource half({7}, 2, {at::kHalf, true});
  at::Tensor drawn = at::randn({2, 4, 3, 5, 6}, cpu_generator(7), at::kHalf);
  check(at::equal(half.initial(4, 3, 5, 6), drawn.to(at::kFloat)), "half precision draws in half precision");
  check_throws("ERR_INVALID_ARGUMENT", "one seed", [] { NoiseSource({1, 2}, 3, {at::kFloat, true}); });
  return 0;
}
