// The scale of latents: a mean and a scale for each channel.
#include "networks/latent_scale.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "check.h"

using torchreel::LatentScale;

int main() {
  at::Tensor z = at::randn({2, 3, 4, 5, 6}, at::kFloat);
  LatentScale own({0.5, 2, -4}, {1, -0.25, 0});
  at::Tensor scale = at::tensor({0.5f, 2.f, -4.f}).view({1, 3, 1, 1, 1});
  at::Tensor mean = at::tensor({1.f, -0.25f, 0.f}).view({1, 3, 1, 1, 1});
  check(own.channels() == 3, "one channel for each number");
  check(at::allclose(own.normalize(z), (z - mean) * scale), "each channel is (z − mean) · scale");
  check(at::allclose(own.denormalize(z), z / scale + mean), "and back it is z / scale + mean");
  check(at::allclose(own.denormalize(own.normalize(z)), z, 1e-5, 1e-6), "which is the inverse");

  LatentScale one({0.18215, 0.18215, 0.18215}, {0, 0, 0});
  check(at::equal(one.normalize(z), z * 0.18215), "a single factor multiplies to the bit");
  check(at::equal(one.denormalize(z), z / 0.18215), "and divides to the bit");

  check_throws("ERR_INVALID_ARGUMENT", "one number for each channel", [] { LatentScale({1, 1}, {0}); });
  check_throws("ERR_INVALID_ARGUMENT", "latentScale", [] { LatentScale({1, 0}, {0, 0}); });
  check_throws("ERR_INVALID_ARGUMENT", "latentScale", [] { LatentScale({NAN}, {0}); });
  return 0;
}
