// Tokens to frames: encode, denoise, decode. All work of a pipeline is done on the thread that calls it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "families.h"
#include "job.h"
#include "networks/autoencoder.h"
#include "networks/denoiser.h"
#include "networks/network.h"
#include "networks/prompt_embedder.h"
#include "networks/text_encoder.h"
#include "torchreel_core.h"

namespace torchreel {

class Pipeline {
 public:
  explicit Pipeline(const torchreel_pipeline_options& options);

  void generate(const torchreel_request& request, const torchreel_listener& listener);

  // Replaces the changes that adapters make to the text encoder and the denoiser; if it throws, in neither.
  void adapt(const torchreel_adaptation& text_encoder, const torchreel_adaptation& denoiser);

  // Embeddings (P, L, D) in the denoiser's dtype, on the device. `check` is called before each stage of the
  // text encoder and may throw.
  at::Tensor encode(int64_t prompts, const torchreel_text& text, const std::function<void()>& check);

  // May be called on any thread at any time.
  torchreel_memory memory() const;

 private:
  // Which weights are on the device.
  enum class Offload {
    none,        // those of all networks, always
    model,       // those of the network that computes
    sequential,  // of the denoiser, those of the stage that computes and the next; else as `model`
  };
  // Throws ERR_INVALID_ARGUMENT for options that cannot be combined with it, ERR_DEVICE_UNAVAILABLE where the
  // device cannot record steps: before anything is loaded.
  static Offload read_offload(const torchreel_pipeline_options& options, at::Device device);

  // Throws ABORTED if the caller no longer wants the pipeline.
  Network load_network(const torchreel_pipeline_options& options, std::string_view role) const;

  // Without offload, places the weights of all networks for good, unless they are.
  void hold_all_weights();

  // Throws ERR_INVALID_ARGUMENT for a request that this pipeline cannot do.
  void check(const torchreel_request& request, const Program& program) const;

  // The prompts and, for guidance, the negative prompts. `on_submitted` is called when the device has all of
  // the work, but may not have done it.
  std::vector<Texts> embed(const Job& job, const std::function<void()>& on_submitted);

  // The stage "encode" has the text encoder's steps, and one for each frame of the video.
  void report_encoded(const Job& job, int64_t step) const;

  // The latents that the program starts from: given ones, those of the request's video, or noise.
  // (B, C, f, h, w) float32, on the device.
  at::Tensor start_latents(Job& job);
  at::Tensor encode_video(Job& job);

  // Hands rgb24 frames to the listener.
  void decode(const Job& job, const at::Tensor& latents);

  const Family& family_;
  at::Device device_;
  at::ScalarType chosen_dtype_;
  at::ScalarType dtype_;  // of the denoiser
  Offload offload_;
  bool records_steps_;
  int64_t latent_channels_;
  Network text_network_, denoiser_network_, vae_network_;
  std::unique_ptr<TextEncoder> text_encoder_;
  PromptEmbedder embedder_;
  std::unique_ptr<Denoiser> denoiser_;
  std::unique_ptr<Autoencoder> autoencoder_;
  // With offload 'none', of all networks. Last, since it must not outlive the networks.
  std::vector<WeightHold> all_weights_;
};

}  // namespace torchreel
