// Noise with the reference's numbers, order and layout. It always comes from libtorch's CPU generator, so
// that a seed gives the same numbers on every device.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <vector>

namespace torchreel {

at::Generator cpu_generator(uint64_t seed);

// The noise of one job of B videos. One seed draws for all videos at once, B seeds for one video each.
class NoiseSource {
 public:
  NoiseSource(const std::vector<uint64_t>& seeds, int64_t videos, at::ScalarType dtype);

  // The initial latents (B, C, F, h, w), drawn in that layout. Float32 on the CPU.
  at::Tensor initial(int64_t channels, int64_t frames, int64_t height, int64_t width);
  // The noise of one step (B, C, F, h, w), drawn frame by frame as (B·F, C, h, w). Float32 on the CPU.
  at::Tensor step(int64_t channels, int64_t frames, int64_t height, int64_t width);

 private:
  at::Tensor draw(std::vector<int64_t> shape);

  std::vector<at::Generator> generators_;
  int64_t videos_;
  at::ScalarType dtype_;  // the network's: the reference draws in it
};

}  // namespace torchreel
