// Tokens to frames: encode, denoise, decode. Everything of a pipeline happens on the one thread that calls
// it.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>

#include "networks/network.h"
#include "networks/recorded_denoiser.h"
#include "torchreel_core.h"

namespace torchreel {

class NoiseSource;
class Program;

// The device of that name. Throws ERR_INVALID_ARGUMENT for no name of a device, ERR_DEVICE_UNAVAILABLE where
// the machine or this libtorch has none.
at::Device device_named(const std::string& name);

class Pipeline {
 public:
  explicit Pipeline(const torchreel_pipeline_options& options);

  void generate(const torchreel_request& request, const torchreel_listener& listener);

  // Replaces what adapters change in the text encoder and the UNet; if it throws, in neither.
  void adapt(const torchreel_adaptation& text_encoder, const torchreel_adaptation& unet);

  // (P, L, D) embeddings in the networks' dtype, on the device
  at::Tensor encode(int64_t prompts, const torchreel_text& text);

  // May be called on any thread, whatever the pipeline does.
  torchreel_memory memory() const;

 private:
  // How much of the networks is on the device.
  enum class Offload {
    none,        // all of them, always
    model,       // the one that computes
    sequential,  // of the unet, the stage that computes and the next; else as `model`
  };
  static Offload offload_named(const std::string& name);

  // Without offload, places all networks for good, unless they are.
  void keep();
  // With 'model', places the network whose turn is next: called while the device still computes the present
  // one.
  using Shares = std::vector<Network::Share>;
  Shares ahead(Network& network);
  // `encode`, perhaps still to be computed by the device
  at::Tensor embed(int64_t prompts, const torchreel_text& text);
  // Keeps embeddings that were seen to be numbers.
  void remember(int64_t prompts, const torchreel_text& text, const at::Tensor& embeddings);
  // What was remembered for the same tokens, or null.
  const at::Tensor* known(int64_t prompts, const torchreel_text& text) const;

  // A job's stages leave in `next` the shares of the network that follows, placed `ahead`.

  // What the program starts from: given latents, the request's video, or noise. (B, C, F, h, w) float32, on
  // the device.
  at::Tensor start(const torchreel_request& request, NoiseSource& noise, const torchreel_listener& listener,
                   Shares& next);
  // The latents of the request's video, drawn for each of the B videos from what the VAE makes of it.
  at::Tensor encode_video(const torchreel_request& request, NoiseSource& noise,
                          const torchreel_listener& listener, Shares& next);
  // (B, C, F, h, w) float32 denoised latents, on the device. `negative` is undefined where there is no
  // guidance.
  at::Tensor denoise(const torchreel_request& request, const Program& program, const at::Tensor& start,
                     NoiseSource& noise, const at::Tensor& prompts, const at::Tensor& negative,
                     const torchreel_listener& listener, Shares& next);
  // Hands over rgb24 frames, `decode_chunk` at a time
  void decode(const torchreel_request& request, const at::Tensor& latents,
              const torchreel_listener& listener);

  at::Device device_;
  at::ScalarType dtype_;
  Offload offload_;
  bool captures_;  // whether steps are recorded
  double scaling_factor_;
  int64_t latent_channels_;
  Network text_encoder_, unet_, vae_;
  std::unique_ptr<CompiledDenoiser> compiled_;  // of unet_, or null
  struct Encoding {
    std::vector<int32_t> tokens;  // (P, L)
    int64_t prompts, clip_skip;   // P
    at::Tensor embeddings;
  };
  std::deque<Encoding> encodings_;  // the latest first
  // After the networks, which these must not outlive; the graphs, which go first, are of kept weights.
  Shares kept_;
  RecordedDenoiser recorded_;
};

}  // namespace torchreel
