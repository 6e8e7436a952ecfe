#include "wan/causal_vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <vector>

#include "networks/tiles.h"
#include "process/faults.h"
#include "process/job_checks.h"

namespace torchreel::wan {
namespace {

constexpr int64_t time_scale = 4;  // frames of every latent frame but the first

// The network with the frames that it keeps, during one way through a video or a tile of it.
class Pass {
 public:
  Pass(Network& network, const torchreel_listener& listener) : network_(network), listener_(listener) {}

  // A method of the graph on the next frames (1, C, n, H, W). Checks for cancellation first.
  c10::IValue call(const char* method, const at::Tensor& frames) {
    stop_if_cancelled(listener_);
    return network_.call(method, {frames.to(network_.dtype()).contiguous(), state_});
  }

 private:
  Network& network_;
  const torchreel_listener& listener_;
  c10::List<at::Tensor> state_;
};

// Frames (F, C, …) `first` to `first + count` as (1, C, count, …)
at::Tensor as_video(const at::Tensor& frames, int64_t first, int64_t count) {
  return frames.narrow(0, first, count).transpose(0, 1).unsqueeze(0);
}

}  // namespace

int64_t CausalVae::count_frames(int64_t latent_frames) const { return time_scale * (latent_frames - 1) + 1; }

at::Tensor CausalVae::encode(const Source& source, const Tiling& tiling, const torchreel_listener& listener) {
  WeightHold hold = network_.place();
  int64_t frames = source.frames.size(0), height = source.frames.size(1), width = source.frames.size(2);
  int64_t scale = height / source.latent_height;  // pixels per latent
  at::Tensor rgb = source.frames.permute({0, 3, 1, 2});
  at::Tensor means = in_tiles(rgb, tiling.size * scale, tiling.overlap * scale, [&](const at::Tensor& tile) {
    bool whole = tile.size(2) == height && tile.size(3) == width;
    Pass pass(network_, listener);
    std::vector<at::Tensor> latents;  // each (1, C, h, w)
    for (int64_t first = 0; first < frames;) {
      int64_t count = first == 0 ? 1 : time_scale;
      at::Tensor chunk = as_video(tile, first, count).to(network_.device(), at::kFloat) / 255 * 2 - 1;
      at::Tensor mean = pass.call("encode", chunk).toTupleRef().elements()[0].toTensor();
      latents.push_back(mean.squeeze(2).to(at::kFloat));
      faults::spoil(latents.back());
      first += count;
      if (whole) source.encoded(first);
    }
    return at::cat(latents);
  });
  source.encoded(frames);
  return scale_.normalize(as_video(means, 0, means.size(0)));
}

void CausalVae::decode(const at::Tensor& latents, const Tiling& tiling, const torchreel_listener& listener,
                       const TakeFrames& take) {
  WeightHold hold = network_.place();
  at::Tensor scaled = scale_.denormalize(latents);
  int64_t frames = count_frames(latents.size(2));
  for (int64_t video = 0; video < latents.size(0); ++video) {
    int64_t first = video * frames;
    at::Tensor z = scaled[video].transpose(0, 1);  // (f, C, h, w)
    // Frames (F, 3, H, W) of a tile (f, C, h, w), which go to `each` as they come.
    auto run = [&](const at::Tensor& tile, const std::function<void(at::Tensor)>& each) {
      Pass pass(network_, listener);
      for (int64_t frame = 0; frame < tile.size(0); ++frame) {
        at::Tensor decoded = pass.call("decode", as_video(tile, frame, 1)).toTensor().to(at::kFloat);
        faults::spoil(decoded);
        each(decoded.squeeze(0).transpose(0, 1));
      }
    };
    bool whole = tiling.size == 0 || (z.size(2) <= tiling.size && z.size(3) <= tiling.size);
    if (whole) {
      run(z, [&](const at::Tensor& images) {
        take(first, images);
        first += images.size(0);
      });
      continue;
    }
    take(first, in_tiles(z, tiling.size, tiling.overlap, [&](const at::Tensor& tile) {
           std::vector<at::Tensor> parts;
           run(tile, [&](at::Tensor images) { parts.push_back(std::move(images)); });
           return at::cat(parts);
         }));
  }
}

}  // namespace torchreel::wan
