#include "modelscope/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>

#include <algorithm>
#include <vector>

#include "networks/tiles.h"
#include "process/faults.h"
#include "process/job_checks.h"

namespace torchreel::modelscope {
namespace {

// The network during one pass over frames. float16 has no number above 65504, which some VAEs exceed between
// layers: after the first result that is not finite, that result and the rest of the pass are computed in
// float32.
class Pass {
 public:
  Pass(Network& network, const torchreel_listener& listener)
      : network_(network), dtype_(network.dtype()), listener_(listener), hold_(network.place()) {}

  // A method of the graph on one tile. Checks for cancellation first.
  c10::IValue call(const char* method, const at::Tensor& tile) {
    stop_if_cancelled(listener_);
    return network_.call(method, {tile.to(dtype_)});
  }

  // `compute` runs once, or again in float32.
  template <typename Compute>
  at::Tensor in_range(Compute&& compute) {
    at::Tensor result = compute();
    faults::spoil(result);
    if (dtype_ != at::kHalf || result.isfinite().all().item<bool>()) return result;
    float32_hold_ = network_.place_as(at::kFloat);
    dtype_ = at::kFloat;
    listener_.warning(listener_.context,
                      "the VAE overflowed float16, so that frames were computed in float32");
    return compute();
  }

 private:
  Network& network_;
  at::ScalarType dtype_;
  const torchreel_listener& listener_;
  WeightHold hold_, float32_hold_;  // the second replaces the first, and must end before it
};

// An image (1, 3, H, W) in [-1, 1] to mean and log variance (1, 2·C, h, w), float32
at::Tensor encode_image(Pass& pass, const at::Tensor& image) {
  return pass.in_range([&] {
    auto moments = pass.call("encode", image).toTupleRef().elements().vec();
    return at::cat({moments[0].toTensor(), moments[1].toTensor()}, 1).to(at::kFloat);
  });
}

// Latents (n, C, h, w) to images (n, 3, H, W) in about [-1, 1], float32
at::Tensor decode_images(Pass& pass, const at::Tensor& latents) {
  return pass.in_range([&] { return pass.call("decode", latents).toTensor().to(at::kFloat); });
}

}  // namespace

at::Tensor Vae::encode(const Source& source, const Tiling& tiling, const torchreel_listener& listener) {
  int64_t scale = source.frames.size(1) / source.latent_height;  // pixels per latent
  Pass pass(network_, listener);
  std::vector<at::Tensor> moments;
  for (int64_t frame = 0; frame < source.frames.size(0); ++frame) {
    at::Tensor rgb = source.frames.narrow(0, frame, 1).to(network_.device(), at::kFloat);
    moments.push_back(in_tiles(rgb.permute({0, 3, 1, 2}) / 255 * 2 - 1, tiling.size * scale,
                               tiling.overlap * scale,
                               [&](const at::Tensor& tile) { return encode_image(pass, tile); }));
    source.encoded(frame + 1);
  }
  auto parts = at::cat(moments).transpose(0, 1).unsqueeze(0).chunk(2, 1);  // each (1, C, F, h, w)
  return scale_.normalize(parts[0] + at::exp(0.5 * parts[1]) * source.draw());
}

void Vae::decode(const at::Tensor& latents, const Tiling& tiling, const torchreel_listener& listener,
                 const TakeFrames& take) {
  at::Tensor frames = scale_.denormalize(latents).transpose(1, 2).flatten(0, 1);  // (B·F, C, h, w)
  // One at a time takes least memory and is fastest on a CPU; a GPU needs more work at once.
  int64_t chunk = network_.device().is_cpu() ? 1 : 4;
  Pass pass(network_, listener);
  for (int64_t first = 0; first < frames.size(0); first += chunk) {
    int64_t count = std::min(chunk, frames.size(0) - first);
    take(first, in_tiles(frames.narrow(0, first, count), tiling.size, tiling.overlap,
                         [&](const at::Tensor& tile) { return decode_images(pass, tile); }));
  }
}

}  // namespace torchreel::modelscope
