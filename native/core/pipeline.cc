#include "pipeline.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "denoise_loop.h"
#include "denoising/guidance.h"
#include "networks/compiled_denoiser.h"
#include "networks/device_graph.h"
#include "networks/recorded_denoiser.h"
#include "packed_weight.h"
#include "process/devices.h"
#include "process/error.h"
#include "process/faults.h"
#include "process/job_checks.h"
#include "process/threads.h"

namespace torchreel {
namespace {

LatentScale read_latent_scale(const torchreel_pipeline_options& options) {
  const double *scale = options.latent_scale, *mean = options.latent_mean;
  return {{scale, scale + options.latent_channels}, {mean, mean + options.latent_channels}};
}

// What a processor computes in where it was asked for a type that it does not multiply fast.
at::ScalarType computed_dtype(const torchreel_pipeline_options& options, at::Device device,
                              at::ScalarType chosen) {
  bool fast = chosen == at::kFloat || (chosen == at::kBFloat16 && multiplies_bfloat16());
  // A compiled denoiser is for one type.
  if (!device.is_cpu() || fast || options.compiled_denoiser.library) return chosen;
  std::string name = options.dtype;
  if (options.warning) {
    options.warning(
        options.context,
        ("dtype '" + name +
         "' is slow on this CPU, so the networks compute in float32, with weights that "
         "are rounded to " +
         name + ". Use 'float32'" +
         (multiplies_bfloat16() ? ", or 'bfloat16', which is faster and halves the memory of the weights"
                                : ""))
            .c_str());
  }
  return at::kFloat;
}

bool is_guided(const torchreel_request& request) {
  return request.negative_prompts.tokens || request.negative_prompts.embeddings;
}

Tiling read_tiling(const torchreel_request& request) { return {request.tile, request.tile_overlap}; }

}  // namespace

Pipeline::Offload Pipeline::read_offload(const torchreel_pipeline_options& options, at::Device device) {
  std::string_view name = options.offload;
  if (name != "none" && name != "model" && name != "sequential")
    throw invalid_argument("offload must be 'none', 'model' or 'sequential', got '" + std::string(name) +
                           "'");
  if (name == "sequential" && options.capture_graph) {
    throw invalid_argument(
        "captureGraph cannot be combined with offload 'sequential': the weights move in every step");
  }
  if (name == "sequential" && options.compiled_denoiser.library)
    throw invalid_argument(
        "a compiled denoiser cannot be combined with offload 'sequential': it has no stages");
  if (options.capture_graph) device_graphs(device.type());
  return name == "none" ? Offload::none : name == "model" ? Offload::model : Offload::sequential;
}

Pipeline::Pipeline(const torchreel_pipeline_options& options)
    : family_(family_named(options.family)),
      device_(device_named(options.device)),
      chosen_dtype_(dtype_named(options.dtype)),
      dtype_(computed_dtype(options, device_, chosen_dtype_)),
      offload_(read_offload(options, device_)),
      records_steps_(options.capture_graph),
      latent_channels_(options.latent_channels),
      text_network_(load_network(options, "text_encoder")),
      denoiser_network_(load_network(options, "denoiser")),
      vae_network_(load_network(options, "vae")),
      text_encoder_(family_.make_text_encoder(text_network_)),
      embedder_(*text_encoder_, text_network_, dtype_) {
  autoencoder_ = family_.make_autoencoder(vae_network_, read_latent_scale(options));
  denoiser_ = family_.make_denoiser(denoiser_network_);
  // Loaded before the weights are placed, since it may not fit the model.
  if (options.compiled_denoiser.library) {
    denoiser_ = std::make_unique<CompiledDenoiser>(options.compiled_denoiser, std::move(denoiser_),
                                                   denoiser_network_);
  }
  if (records_steps_) denoiser_ = std::make_unique<RecordedDenoiser>(std::move(denoiser_), device_);
  hold_all_weights();
}

Network Pipeline::load_network(const torchreel_pipeline_options& options, std::string_view role) const {
  if (options.cancelled(options.context)) throw Error("ABORTED", "the loading was cancelled");
  std::span networks(options.networks, options.network_count);
  auto files = std::ranges::find_if(networks, [&](const auto& network) { return network.role == role; });
  if (files == networks.end()) throw invalid_argument("the model has no " + std::string(role));
  Precision precision = family_.precision(dtype_);
  at::ScalarType dtype = role == "text_encoder" ? precision.text_encoder
                         : role == "vae"        ? precision.vae
                                                : precision.denoiser;
  return {*files, device_, dtype,
          NetworkOptions{.max_header = static_cast<uint64_t>(options.max_header),
                         // Embeddings are kept, so the text encoder's weights move seldom.
                         .pinned = offload_ != Offload::none && role != "text_encoder",
                         .rounded = chosen_dtype_ == dtype_ ? at::kFloat : chosen_dtype_,
                         // A compiled denoiser takes weights as they are published.
                         .packed = role != "denoiser" || !options.compiled_denoiser.library,
                         .names = family_.weight_names,
                         .warn = [&](const std::string& message) {
                           if (options.warning) options.warning(options.context, message.c_str());
                         }}};
}

void Pipeline::hold_all_weights() {
  if (offload_ != Offload::none || !all_weights_.empty()) return;
  std::vector<WeightHold> holds;
  // On a CPU, converting the text encoder's weights again for a new prompt costs little time beside the
  // denoising loop, and their memory is free for everything after it. Float32 files need no conversion.
  if (!device_.is_cpu() || dtype_ == at::kFloat) holds.push_back(text_encoder_->hold_weights());
  holds.push_back(denoiser_->hold_weights());
  holds.push_back(autoencoder_->hold_weights());
  all_weights_ = std::move(holds);
  // Reading a weight also brings in pages next to it, so pages that nobody uses may be left.
  for (const Network* network : {&text_network_, &denoiser_network_, &vae_network_}) network->drop_pages();
}

torchreel_memory Pipeline::memory() const {
  torchreel_memory memory{.text_encoder = text_network_.memory(),
                          .denoiser = denoiser_network_.memory(),
                          .vae = vae_network_.memory(),
                          .allocated = faults::live_bytes(),
                          .reserved = faults::live_bytes()};
  if (device_.is_cpu()) return memory;
  auto statistics = at::getDeviceAllocator(device_.type())->getDeviceStats(device_.index());
  constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  memory.allocated = statistics.allocated_bytes[all].current;
  memory.reserved = statistics.reserved_bytes[all].current;
  return memory;
}

void Pipeline::check(const torchreel_request& request, const Program& program) const {
  if (is_guided(request) && request.guidance_length != static_cast<size_t>(program.calls()))
    throw invalid_argument("guidance must have one scale for each call of the program");
  if (records_steps_ && request.feature_cache > 1)
    throw invalid_argument("featureCache cannot be combined with captureGraph, which repeats whole steps");
  if (request.frames != autoencoder_->count_frames(request.latent_frames)) {
    throw invalid_argument(std::to_string(request.latent_frames) + " latent frames are not " +
                           std::to_string(request.frames) + " frames");
  }
}

void Pipeline::generate(const torchreel_request& request, const torchreel_listener& listener) {
  Program program({request.program, request.program_length});
  check(request, program);
  stop_if_cancelled(listener);
  take_threads(listener);
  hold_all_weights();  // `adapt` may have had no memory for it
  NoiseSource noise({request.seeds, request.seeds + request.seed_count}, request.videos,
                    family_.noise(chosen_dtype_));
  Job job{request, listener, dtype_, std::move(program), std::move(noise)};

  // With offload 'model', the weights of the network whose turn is next: they are copied while the device
  // still computes the present one.
  WeightHold next;
  auto prefetch = [&](auto& network) {
    if (offload_ == Offload::model) next = network.hold_weights();
  };

  report_encoded(job, 0);
  std::vector<Texts> texts = embed(job, [&] {
    if (request.video)
      prefetch(*autoencoder_);
    else
      prefetch(*denoiser_);
  });
  report_encoded(job, text_encoder_->steps());
  at::Tensor latents = start_latents(job);
  if (request.video) {
    prefetch(*denoiser_);
    if (!request.allow_non_finite) check_finite(latents, "the VAE", "encode", 2);
  }
  {
    WeightHold denoiser_weights = std::move(next);
    Guidance guidance(*denoiser_, texts, {request.guidance, request.guidance_length});
    latents = denoise(*denoiser_, guidance, latents, job, [&] { prefetch(*autoencoder_); });
  }
  denoiser_network_.drop_pages();
  decode(job, latents);
  vae_network_.drop_pages();
}

void Pipeline::adapt(const torchreel_adaptation& text_encoder, const torchreel_adaptation& denoiser) {
  Adaptation of_text_encoder = read_adaptation(text_encoder), of_denoiser = read_adaptation(denoiser);
  text_network_.check(of_text_encoder);
  denoiser_network_.check(of_denoiser);
  auto swap_adaptations = [&] {
    all_weights_.clear();
    embedder_.clear_cache();
    text_network_.swap_adaptation(of_text_encoder);
    denoiser_network_.swap_adaptation(of_denoiser);
  };
  swap_adaptations();
  try {
    hold_all_weights();
  } catch (...) {
    swap_adaptations();
    hold_all_weights();
    throw;
  }
}

at::Tensor Pipeline::encode(int64_t prompts, const torchreel_text& text, const std::function<void()>& check) {
  at::Tensor embeddings = embedder_.embed({{prompts, text}}, check, [] {}).front().embeddings;
  int64_t padding = text.tokens_per_prompt - embeddings.size(1);  // zeros where a family skips it
  return padding == 0 ? embeddings : at::constant_pad_nd(embeddings, {0, 0, 0, padding});
}

std::vector<Texts> Pipeline::embed(const Job& job, const std::function<void()>& on_submitted) {
  const torchreel_request& request = job.request;
  std::vector<PromptEmbedder::Prompts> lists{{request.videos, request.prompts}};
  if (is_guided(request)) lists.push_back({request.videos, request.negative_prompts});
  int64_t begun = 0;
  auto begin_stage = [&] {
    stop_if_cancelled(job.listener);
    if (begun > 0 && begun < text_encoder_->steps()) report_encoded(job, begun);
    ++begun;
  };
  return embedder_.embed(lists, begin_stage, on_submitted);
}

void Pipeline::report_encoded(const Job& job, int64_t step) const {
  int64_t frames = job.request.video ? job.request.frames : 0;
  job.listener.progress(job.listener.context, TORCHREEL_ENCODE, step, text_encoder_->steps() + frames);
}

at::Tensor Pipeline::start_latents(Job& job) {
  const torchreel_request& request = job.request;
  int64_t frames = request.latent_frames, height = request.latent_height, width = request.latent_width;
  if (request.video) return encode_video(job);
  if (!request.latents) return to_device(job.noise.initial(latent_channels_, frames, height, width), device_);
  std::vector<int64_t> shape{request.videos, latent_channels_, frames, height, width};
  return at::from_blob(const_cast<float*>(request.latents), shape, at::kFloat)
      .to(device_, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor Pipeline::encode_video(Job& job) {
  const torchreel_request& request = job.request;
  at::Tensor frames =
      at::from_blob(const_cast<uint8_t*>(request.video),
                    {request.frames, request.video_height, request.video_width, 3}, at::kByte);
  auto draw = [&] {
    int64_t height = request.latent_height, width = request.latent_width;
    return job.noise.step(latent_channels_, request.latent_frames, height, width).to(device_);
  };
  auto encoded = [&](int64_t count) { report_encoded(job, text_encoder_->steps() + count); };
  at::Tensor latents = autoencoder_->encode({frames, request.latent_height, draw, encoded},
                                            read_tiling(request), job.listener);
  return latents.expand({request.videos, -1, -1, -1, -1});
}

void Pipeline::decode(const Job& job, const at::Tensor& latents) {
  const torchreel_request& request = job.request;
  const torchreel_listener& listener = job.listener;
  int64_t total = request.videos * request.frames;
  listener.progress(listener.context, TORCHREEL_DECODE, 0, total);
  auto take = [&](int64_t first, const at::Tensor& images) {
    if (!request.allow_non_finite) check_finite(images, "the VAE", "decode", first + 1);
    at::Tensor pixels =
        (images.nan_to_num(-1, -1, -1) * 0.5 + 0.5).clamp_(0, 1).mul_(255).round_().to(at::kByte);
    pixels = pixels.permute({0, 2, 3, 1}).to(at::kCPU).contiguous();  // (n, H, W, 3)
    int64_t count = pixels.size(0);
    listener.frames(listener.context, first, count, pixels.size(1), pixels.size(2),
                    pixels.const_data_ptr<uint8_t>());
    listener.progress(listener.context, TORCHREEL_DECODE, first + count, total);
  };
  autoencoder_->decode(latents, read_tiling(request), listener, take);
}

}  // namespace torchreel
