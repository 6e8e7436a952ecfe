#include "denoising/noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>

#include "process/error.h"

namespace torchreel {

at::Generator cpu_generator(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

NoiseSource::NoiseSource(const std::vector<uint64_t>& seeds, int64_t videos, const NoiseLayout& layout)
    : videos_(videos), layout_(layout) {
  if (seeds.size() != 1 && seeds.size() != static_cast<size_t>(videos)) {
    throw invalid_argument("there must be one seed, or one for each video");
  }
  for (uint64_t seed : seeds) generators_.push_back(cpu_generator(seed));
}

at::Tensor NoiseSource::initial(int64_t channels, int64_t frames, int64_t height, int64_t width) {
  return draw({videos_, channels, frames, height, width});
}

at::Tensor NoiseSource::step(int64_t channels, int64_t frames, int64_t height, int64_t width) {
  if (!layout_.frame_by_frame) return draw({videos_, channels, frames, height, width});
  return draw({videos_, frames, channels, height, width}).transpose(1, 2).contiguous();
}

at::Tensor NoiseSource::draw(std::vector<int64_t> shape) {
  shape[0] /= static_cast<int64_t>(generators_.size());
  std::vector<at::Tensor> parts;
  for (at::Generator& generator : generators_) parts.push_back(at::randn(shape, generator, layout_.dtype));
  return at::cat(parts).to(at::kFloat);
}

}  // namespace torchreel
