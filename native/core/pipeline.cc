#include "pipeline.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "denoising/noise.h"
#include "denoising/program.h"
#include "denoising/windows.h"
#include "modelscope/vae.h"
#include "networks/tiles.h"
#include "process/error.h"
#include "process/faults.h"

namespace torchreel {
namespace {

constexpr size_t max_encodings = 8;  // lists of prompts whose embeddings are kept

at::ScalarType dtype_named(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float16") return at::kHalf;
  if (name == "bfloat16") return at::kBFloat16;
  throw invalid_argument("dtype must be 'float32', 'float16' or 'bfloat16', got '" + name + "'");
}

void stop_if_cancelled(const torchreel_listener& listener) {
  if (listener.cancelled(listener.context)) throw Error("ABORTED", "the job was cancelled");
}

void check_finite(const at::Tensor& tensor, const std::string& network, const char* stage, int64_t step) {
  if (tensor.isfinite().all().item<bool>()) return;
  throw Error("ERR_NUMERIC",
              network +
                  " gave numbers that are not finite; half precision that overflows does that, and so "
                  "do broken weights: try dtype 'float32', or 'bfloat16', whose range is float32's",
              stage, step);
}

// A copy that the host need not wait for: it goes there from page-locked memory, which stays until it is
// there.
at::Tensor to_device(const at::Tensor& host, at::Device device) {
  return device.is_cpu() ? host : host.pin_memory().to(device, host.scalar_type(), /*non_blocking=*/true);
}

void wait_for(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

// Whether steps are recorded, which what cannot do it refuses before anything is loaded.
bool captures(const torchreel_pipeline_options& options, at::Device device, bool stays) {
  if (!options.capture_graph) return false;
  if (!stays) throw invalid_argument("captureGraph takes weights that stay: not with offload 'sequential'");
  device_graphs(device.type());
  return true;
}

// Loaded before the networks' weights are placed, for it may not fit.
std::unique_ptr<CompiledDenoiser> compiled(const torchreel_pipeline_options& options, at::Device device,
                                           bool stays) {
  if (!options.compiled_denoiser.library) return nullptr;
  if (!stays) throw invalid_argument("a compiled denoiser has no stages: not with offload 'sequential'");
  return std::make_unique<CompiledDenoiser>(options.compiled_denoiser, device);
}

// What is needed to build a network, unless the caller wants no pipeline any more.
const torchreel_network_files& wanted(const torchreel_pipeline_options& options,
                                      const torchreel_network_files& files) {
  if (options.cancelled(options.context)) throw Error("ABORTED", "the loading was cancelled");
  return files;
}

// What is encoded: the prompts, and each frame of the video.
int64_t encodings(const torchreel_request& request) { return 1 + (request.video ? request.frames : 0); }

}  // namespace

at::Device device_named(const std::string& name) {
  at::Device device(at::kCPU);
  try {
    device = at::Device(name);
  } catch (const c10::Error&) {
    throw invalid_argument("device must be 'cpu', 'cuda' or 'cuda:N', got '" + name + "'");
  }
  if (device.is_cpu()) return device;
  if (!c10::impl::hasDeviceGuardImpl(device.type())) {
    throw Error("ERR_DEVICE_UNAVAILABLE", "device '" + name + "' needs a libtorch that was built for it");
  }
  c10::impl::VirtualGuardImpl devices(device.type());
  int count = devices.deviceCount();
  if (count == 0)
    throw Error("ERR_DEVICE_UNAVAILABLE", "device '" + name + "' is not to be had: libtorch sees none");
  if (device.has_index() && device.index() >= count) {
    throw Error("ERR_DEVICE_UNAVAILABLE", "device '" + name + "' is not to be had: libtorch sees " +
                                              std::to_string(count) + " of its kind");
  }
  return device.has_index() ? device : at::Device(device.type(), 0);
}

Pipeline::Offload Pipeline::offload_named(const std::string& name) {
  if (name == "none") return Offload::none;
  if (name == "model") return Offload::model;
  if (name == "sequential") return Offload::sequential;
  throw invalid_argument("offload must be 'none', 'model' or 'sequential', got '" + name + "'");
}

Pipeline::Pipeline(const torchreel_pipeline_options& options)
    : device_(device_named(options.device)),
      dtype_(dtype_named(options.dtype)),
      offload_(offload_named(options.offload)),
      captures_(captures(options, device_, offload_ != Offload::sequential)),
      scaling_factor_(options.scaling_factor),
      latent_channels_(options.latent_channels),
      text_encoder_("text encoder", wanted(options, options.text_encoder), device_, dtype_,
                    static_cast<uint64_t>(options.max_header), offload_ != Offload::none),
      unet_("unet", wanted(options, options.unet), device_, dtype_, static_cast<uint64_t>(options.max_header),
            offload_ != Offload::none),
      vae_("vae", wanted(options, options.vae), device_, dtype_, static_cast<uint64_t>(options.max_header),
           offload_ != Offload::none),
      compiled_(compiled(options, device_, offload_ != Offload::sequential)),
      recorded_(UNet(unet_, compiled_.get()), device_) {
  keep();
}

void Pipeline::keep() {
  if (offload_ != Offload::none || !kept_.empty()) return;
  Shares shares;
  for (Network* network : {&text_encoder_, &unet_, &vae_}) {
    for (Network::Share& share : network->place()) shares.push_back(std::move(share));
  }
  if (compiled_) compiled_->take(unet_);
  kept_ = std::move(shares);
}

Pipeline::Shares Pipeline::ahead(Network& network) {
  return offload_ == Offload::model ? network.place() : Shares{};
}

torchreel_memory Pipeline::memory() const {
  torchreel_memory memory{.text_encoder = text_encoder_.memory(),
                          .unet = unet_.memory(),
                          .vae = vae_.memory(),
                          .allocated = faults::live_bytes(),
                          .reserved = faults::live_bytes()};
  if (device_.is_cpu()) return memory;
  auto statistics = at::getDeviceAllocator(device_.type())->getDeviceStats(device_.index());
  constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  memory.allocated = statistics.allocated_bytes[all].current;
  memory.reserved = statistics.reserved_bytes[all].current;
  return memory;
}

void Pipeline::generate(const torchreel_request& request, const torchreel_listener& listener) {
  Program program({request.program, request.program_length});
  bool guided = request.negative_prompts.tokens || request.negative_prompts.embeddings;
  if (guided && request.guidance_length != static_cast<size_t>(program.calls())) {
    throw invalid_argument("there must be one guidance scale for each of the program's calls");
  }
  if (captures_ && request.feature_cache > 1) {
    throw invalid_argument("featureCache must be 1 with captureGraph, which repeats whole steps");
  }

  stop_if_cancelled(listener);
  keep();  // which `adapt` may have had no memory for
  NoiseSource noise({request.seeds, request.seeds + request.seed_count}, request.videos, dtype_);
  listener.progress(listener.context, TORCHREEL_ENCODE, 0, encodings(request));
  at::Tensor prompts, negative;
  Shares next;
  {
    Shares shares;  // copied once for both
    if (request.prompts.tokens && !known(request.videos, request.prompts)) shares = text_encoder_.place();
    prompts = embed(request.videos, request.prompts);
    if (guided) negative = embed(request.videos, request.negative_prompts);
    next = ahead(request.video ? vae_ : unet_);
    check_finite(prompts, "the text encoder", "encode", 1);
    if (guided) check_finite(negative, "the text encoder", "encode", 1);
    remember(request.videos, request.prompts, prompts);
    if (guided) remember(request.videos, request.negative_prompts, negative);
  }
  text_encoder_.let_go();
  listener.progress(listener.context, TORCHREEL_ENCODE, 1, encodings(request));
  at::Tensor latents = start(request, noise, listener, next);
  latents = denoise(request, program, latents, noise, prompts, negative, listener, next);
  decode(request, latents, listener);
  vae_.let_go();
}

void Pipeline::adapt(const torchreel_adaptation& text_encoder, const torchreel_adaptation& unet) {
  Adaptation of_text = read_adaptation(text_encoder), of_unet = read_adaptation(unet);
  text_encoder_.check(of_text);
  unet_.check(of_unet);
  auto exchange = [&] {
    recorded_.forget();
    if (compiled_) compiled_->release();
    kept_.clear();
    encodings_.clear();
    text_encoder_.exchange(of_text);
    unet_.exchange(of_unet);
  };
  exchange();
  try {
    keep();
  } catch (...) {
    exchange();
    keep();
    throw;
  }
}

at::Tensor Pipeline::encode(int64_t prompts, const torchreel_text& text) {
  at::Tensor embeddings = embed(prompts, text);
  check_finite(embeddings, "the text encoder", "encode", 1);
  remember(prompts, text, embeddings);
  text_encoder_.let_go();
  return embeddings;
}

at::Tensor Pipeline::embed(int64_t prompts, const torchreel_text& text) {
  if (text.embeddings) {
    at::Tensor given = at::from_blob(const_cast<float*>(text.embeddings),
                                     {prompts, text.tokens_per_prompt, text.embedding_size}, at::kFloat);
    return given.to(device_, dtype_, /*non_blocking=*/false, /*copy=*/true);
  }
  if (const at::Tensor* embeddings = known(prompts, text)) return *embeddings;
  auto shares = text_encoder_.place();
  at::Tensor ids =
      at::from_blob(const_cast<int32_t*>(text.tokens), {prompts, text.tokens_per_prompt}, at::kInt);
  at::Tensor embeddings =
      text_encoder_.call("forward", {ids.to(at::kLong).to(device_), text.clip_skip}).toTensor();
  faults::spoil(embeddings);
  return embeddings;
}

void Pipeline::remember(int64_t prompts, const torchreel_text& text, const at::Tensor& embeddings) {
  if (!text.tokens || known(prompts, text)) return;
  const int32_t* end = text.tokens + prompts * text.tokens_per_prompt;
  encodings_.push_front({{text.tokens, end}, prompts, text.clip_skip, embeddings});
  if (encodings_.size() > max_encodings) encodings_.pop_back();
}

const at::Tensor* Pipeline::known(int64_t prompts, const torchreel_text& text) const {
  if (!text.tokens) return nullptr;
  auto same = [&](const Encoding& encoding) {
    return encoding.prompts == prompts && encoding.clip_skip == text.clip_skip &&
           std::ranges::equal(encoding.tokens,
                              std::span(text.tokens, static_cast<size_t>(prompts * text.tokens_per_prompt)));
  };
  auto encoding = std::ranges::find_if(encodings_, same);
  return encoding == encodings_.end() ? nullptr : &encoding->embeddings;
}

at::Tensor Pipeline::start(const torchreel_request& request, NoiseSource& noise,
                           const torchreel_listener& listener, Shares& next) {
  int64_t frames = request.frames, height = request.latent_height, width = request.latent_width;
  if (request.video) return encode_video(request, noise, listener, next);
  if (!request.latents) return to_device(noise.initial(latent_channels_, frames, height, width), device_);
  std::vector<int64_t> shape{request.videos, latent_channels_, frames, height, width};
  return at::from_blob(const_cast<float*>(request.latents), shape, at::kFloat)
      .to(device_, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor Pipeline::encode_video(const torchreel_request& request, NoiseSource& noise,
                                  const torchreel_listener& listener, Shares& next) {
  int64_t frames = request.frames, height = request.video_height, width = request.video_width;
  int64_t scale = height / request.latent_height;
  at::Tensor video =
      at::from_blob(const_cast<uint8_t*>(request.video), {frames, height, width, 3}, at::kByte);

  Vae vae(vae_, dtype_, listener);
  std::vector<at::Tensor> moments;  // each (1, 2·C, h, w): mean and log variance
  for (int64_t frame = 0; frame < frames; ++frame) {
    at::Tensor image = video.narrow(0, frame, 1).to(device_, at::kFloat).permute({0, 3, 1, 2}) / 255 * 2 - 1;
    moments.push_back(
        in_tiles(image, request.tile * scale, request.tile_overlap * scale, [&](const at::Tensor& tile) {
          stop_if_cancelled(listener);
          return vae.encode(tile);
        }));
    listener.progress(listener.context, TORCHREEL_ENCODE, 2 + frame, encodings(request));
  }
  auto parts = at::cat(moments).transpose(0, 1).unsqueeze(0).chunk(2, 1);  // (1, C, F, h, w)
  at::Tensor drawn = noise.step(latent_channels_, frames, request.latent_height, request.latent_width);
  at::Tensor latents = (parts[0] + at::exp(0.5 * parts[1]) * drawn.to(device_)) * scaling_factor_;
  next = ahead(unet_);
  if (!request.allow_non_finite) check_finite(latents, "the VAE", "encode", 2);
  return latents;
}

at::Tensor Pipeline::denoise(const torchreel_request& request, const Program& program,
                             const at::Tensor& start, NoiseSource& noise, const at::Tensor& prompts,
                             const at::Tensor& negative, const torchreel_listener& listener, Shares& next) {
  int64_t frames = request.frames, height = request.latent_height, width = request.latent_width;
  auto report = [&](const at::Tensor& sample, int64_t step) {
    at::Tensor host = sample.to(at::kCPU).contiguous();
    listener.latents(listener.context, step, program.calls(), host.const_data_ptr<float>(),
                     host.sizes().data());
  };

  UNet unet(unet_, compiled_.get());
  FreeU freeu;
  if (request.freeu) std::copy_n(request.freeu, 4, freeu.emplace().begin());
  Shares shares;
  if (offload_ != Offload::sequential) shares = unet_.place();
  auto release = [](CompiledDenoiser* compiled) { compiled->release(); };
  bool takes = compiled_ && offload_ == Offload::model;
  std::unique_ptr<CompiledDenoiser, decltype(release)> taking(takes ? compiled_.get() : nullptr, release);
  if (taking) taking->take(unet_);
  RecordedDenoiser of_job(unet, device_);  // weights that do not stay are elsewhere in the next job
  RecordedDenoiser& recorded = offload_ == Offload::none ? recorded_ : of_job;
  // Guidance 1 needs the prompts alone, more needs the pair; what no call needs is not prepared.
  auto scale_of = [&](int64_t call) { return negative.defined() ? request.guidance[call] : 1.0; };
  bool any_alone = false, any_pair = false;
  for (int64_t call = 0; call < program.calls(); ++call) (scale_of(call) > 1 ? any_pair : any_alone) = true;
  c10::IValue alone = any_alone ? unet.prepare(prompts) : c10::IValue();
  c10::IValue pair = any_pair ? unet.prepare(at::cat({negative, prompts})) : c10::IValue();
  listener.progress(listener.context, TORCHREEL_DENOISE, 0, program.calls());

  Program::Hooks hooks;
  std::vector<FeatureCache> caches;  // of each window
  hooks.network = [&](const at::Tensor& input, double timestep, int64_t call) {
    at::Tensor time = at::scalar_tensor(timestep, at::TensorOptions(at::kFloat).device(device_));
    size_t window = 0;
    auto forward = [&](const at::Tensor& x, const c10::IValue& context, int64_t texts) {
      at::Tensor input = x.to(dtype_);
      caches.resize(std::max(caches.size(), window + 1));
      FeatureCache& cache = caches[window++];
      bool cached = cache.feature.defined() && cache.feature.size(0) == texts;
      bool reuse = cached && ++cache.uses < request.feature_cache;
      at::Tensor output = (captures_ ? recorded.forward(input, time, context, freeu)
                                     : unet.forward(input, time, context, freeu,
                                                    request.feature_cache > 1 ? &cache : nullptr, reuse))
                              .to(at::kFloat);
      faults::spoil(output);
      return output;
    };
    double guidance = scale_of(call);
    at::Tensor output = in_windows(input, request.window, request.window_overlap, [&](const at::Tensor& x) {
      stop_if_cancelled(listener);
      if (guidance <= 1) return forward(x, alone, request.videos);
      auto halves = forward(x, pair, 2 * request.videos).chunk(2);  // unconditional, conditional
      return halves[0] + guidance * (halves[1] - halves[0]);
    });
    if (call + 1 == program.calls()) next = ahead(vae_);
    return output;
  };
  hooks.noise = [&] { return to_device(noise.step(latent_channels_, frames, height, width), device_); };
  // The loop waits for the device here and nowhere else, and not less often: else progress would say what is
  // ordered, not what is done, and a cancelled job would end steps later.
  hooks.after_call = [&](const at::Tensor& sample, int64_t call) {
    if (request.allow_non_finite)
      wait_for(device_);
    else
      check_finite(sample, "the unet in step " + std::to_string(call + 1), "denoise", call + 1);
    listener.progress(listener.context, TORCHREEL_DENOISE, call + 1, program.calls());
    bool due = request.latents_every > 0 && (call + 1) % request.latents_every == 0;
    if (due && call + 1 < program.calls()) report(sample, call + 1);
  };
  at::Tensor latents = program.run(start, hooks);
  report(latents, program.calls());
  return latents;
}

void Pipeline::decode(const torchreel_request& request, const at::Tensor& latents,
                      const torchreel_listener& listener) {
  at::Tensor frames = latents.transpose(1, 2).flatten(0, 1) / scaling_factor_;  // (B·F, C, h, w)
  int64_t total = frames.size(0), chunk = std::max<int64_t>(1, request.decode_chunk);

  Vae vae(vae_, dtype_, listener);
  listener.progress(listener.context, TORCHREEL_DECODE, 0, total);
  for (int64_t first = 0; first < total; first += chunk) {
    int64_t count = std::min(chunk, total - first);
    at::Tensor images = in_tiles(frames.narrow(0, first, count), request.tile, request.tile_overlap,
                                 [&](const at::Tensor& tile) {
                                   stop_if_cancelled(listener);
                                   return vae.decode(tile);
                                 });
    if (!request.allow_non_finite) check_finite(images, "the VAE", "decode", first + 1);
    at::Tensor pixels =
        (images.nan_to_num(-1, -1, -1) * 0.5 + 0.5).clamp_(0, 1).mul_(255).round_().to(at::kByte);
    pixels = pixels.permute({0, 2, 3, 1}).to(at::kCPU).contiguous();  // (n, H, W, 3)
    listener.frames(listener.context, first, count, pixels.size(1), pixels.size(2),
                    pixels.const_data_ptr<uint8_t>());
    listener.progress(listener.context, TORCHREEL_DECODE, first + count, total);
  }
}

}  // namespace torchreel
