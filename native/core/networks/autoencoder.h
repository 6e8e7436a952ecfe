// The network between frames and latents, as a job sees it. Each family of models has its own, such as
// modelscope/vae: it owns the scale of its latents, its tiles, and in which pieces it computes frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "networks/weight_hold.h"
#include "torchreel_core.h"

namespace torchreel {

// Frames are computed in squares that overlap, which needs less memory.
struct Tiling {
  int64_t size = 0;     // side of a tile, in latents; 0: frames in one piece
  int64_t overlap = 0;  // latents that a tile shares with the one before it
};

class Autoencoder {
 public:
  virtual ~Autoencoder() = default;

  // How many frames a video of so many latent frames has.
  virtual int64_t count_frames(int64_t latent_frames) const = 0;

  // Places all weights. `encode` and `decode` hold them while they run.
  virtual WeightHold hold_weights() = 0;

  // A video to start from.
  struct Source {
    at::Tensor frames;                     // rgb24 (F, H, W, 3), on the host
    int64_t latent_height;                 // h
    std::function<at::Tensor()> draw;      // standard normal noise (B, C, f, h, w) on the device
    std::function<void(int64_t)> encoded;  // called with the number of frames that are done
  };
  // Gives latents (B, C, f, h, w) or, where none are drawn, (1, C, f, h, w): float32 on the device. The
  // device may still be computing them.
  virtual at::Tensor encode(const Source& source, const Tiling& tiling,
                            const torchreel_listener& listener) = 0;

  // Images (n, 3, H, W) in about [-1, 1], float32 on the device: the frames from `first` on, counted over all
  // videos.
  using TakeFrames = std::function<void(int64_t first, const at::Tensor& images)>;
  // Decodes latents (B, C, f, h, w), one video after the other. `take` gets all frames in order, some at a
  // time; the device may still be computing them.
  virtual void decode(const at::Tensor& latents, const Tiling& tiling, const torchreel_listener& listener,
                      const TakeFrames& take) = 0;
};

}  // namespace torchreel
