#include "pipeline.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <string>
#include <utility>

#include "error.h"
#include "noise.h"
#include "program.h"
#include "windows.h"

namespace torchreel {
namespace {

at::ScalarType dtype_named(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float16") return at::kHalf;
  if (name == "bfloat16") return at::kBFloat16;
  throw invalid_argument("dtype must be 'float32', 'float16' or 'bfloat16', got '" + name + "'");
}

bool offload_named(const std::string& name) {
  if (name == "none") return false;
  if (name == "model") return true;
  throw invalid_argument("offload must be 'none' or 'model', got '" + name + "'");
}

void stop_if_cancelled(const torchreel_listener& listener) {
  if (listener.cancelled(listener.context)) throw Error("ABORTED", "the job was cancelled");
}

void check_finite(const at::Tensor& tensor, const char* stage) {
  if (tensor.isfinite().all().item<bool>()) return;
  throw Error("ERR_NUMERIC",
              std::string(stage) +
                  " gave numbers that are not finite; half precision that overflows does that, and so "
                  "do broken weights: try dtype 'float32'");
}

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

Pipeline::Pipeline(const torchreel_pipeline_options& options)
    : device_(device_named(options.device)),
      dtype_(dtype_named(options.dtype)),
      offload_(offload_named(options.offload)),
      scaling_factor_(options.scaling_factor),
      latent_channels_(options.latent_channels),
      text_encoder_("text encoder", options.text_encoder, device_, dtype_),
      unet_("unet", options.unet, device_, dtype_),
      vae_("vae", options.vae, device_, dtype_) {
  if (offload_) return;
  for (Network* network : {&text_encoder_, &unet_, &vae_}) network->load();
}

void Pipeline::generate(const torchreel_request& request, const torchreel_listener& listener) {
  if (request.threads > 0) at::set_num_threads(request.threads);
  Program program({request.program, request.program_length});
  bool guided = request.negative_prompts.tokens || request.negative_prompts.embeddings;
  if (guided && request.guidance_length != static_cast<size_t>(program.calls())) {
    throw invalid_argument("there must be one guidance scale for each of the program's calls");
  }

  stop_if_cancelled(listener);
  listener.progress(listener.context, TORCHREEL_ENCODE, 0, 1);
  at::Tensor prompts = encode(request.videos, request.prompts);
  at::Tensor negative = guided ? encode(request.videos, request.negative_prompts) : at::Tensor();
  listener.progress(listener.context, TORCHREEL_ENCODE, 1, 1);
  at::Tensor latents = denoise(request, program, prompts, negative, listener);
  decode(request, latents, listener);
}

void Pipeline::adapt(const torchreel_adaptation& text_encoder, const torchreel_adaptation& unet) {
  Adaptation of_text = read_adaptation(text_encoder), of_unet = read_adaptation(unet);
  Adaptation before = text_encoder_.adapt(std::move(of_text));
  try {
    unet_.adapt(std::move(of_unet));
  } catch (...) {
    text_encoder_.adapt(std::move(before));
    throw;
  }
}

at::Tensor Pipeline::encode(int64_t prompts, const torchreel_text& text) {
  if (text.embeddings) {
    at::Tensor given = at::from_blob(const_cast<float*>(text.embeddings),
                                     {prompts, text.tokens_per_prompt, text.embedding_size}, at::kFloat);
    return given.to(device_, dtype_, /*non_blocking=*/false, /*copy=*/true);
  }
  Resident resident(text_encoder_, offload_);
  at::Tensor ids =
      at::from_blob(const_cast<int32_t*>(text.tokens), {prompts, text.tokens_per_prompt}, at::kInt);
  at::Tensor embeddings =
      text_encoder_.call("forward", {ids.to(at::kLong).to(device_), text.clip_skip}).toTensor();
  check_finite(embeddings, "the text encoder");
  return embeddings;
}

at::Tensor Pipeline::denoise(const torchreel_request& request, const Program& program,
                             const at::Tensor& prompts, const at::Tensor& negative,
                             const torchreel_listener& listener) {
  int64_t frames = request.frames, height = request.latent_height, width = request.latent_width;
  std::vector<int64_t> shape{request.videos, latent_channels_, frames, height, width};
  NoiseSource noise({request.seeds, request.seeds + request.seed_count}, request.videos, dtype_);
  auto report = [&](const at::Tensor& sample, int64_t step) {
    at::Tensor host = sample.to(at::kCPU).contiguous();
    listener.latents(listener.context, step, program.calls(), host.const_data_ptr<float>(),
                     host.sizes().data());
  };

  Resident resident(unet_, offload_);
  c10::IValue alone = unet_.call("prepare", {prompts});
  c10::IValue pair =
      negative.defined() ? unet_.call("prepare", {at::cat({negative, prompts})}) : c10::IValue();
  listener.progress(listener.context, TORCHREEL_DENOISE, 0, program.calls());

  Program::Hooks hooks;
  hooks.network = [&](const at::Tensor& input, double timestep, int64_t call) {
    at::Tensor time = at::scalar_tensor(timestep, at::TensorOptions(at::kFloat).device(device_));
    auto forward = [&](const at::Tensor& x, const c10::IValue& context) {
      return unet_.call("forward", {x.to(dtype_), time, context}).toTensor().to(at::kFloat);
    };
    double guidance = negative.defined() ? request.guidance[call] : 1.0;
    return in_windows(input, request.window, request.window_overlap, [&](const at::Tensor& x) {
      stop_if_cancelled(listener);
      if (guidance <= 1) return forward(x, alone);
      auto halves = forward(x, pair).chunk(2);  // unconditional, conditional
      return halves[0] + guidance * (halves[1] - halves[0]);
    });
  };
  hooks.noise = [&] { return noise.step(latent_channels_, frames, height, width).to(device_); };
  hooks.after_call = [&](const at::Tensor& sample, int64_t call) {
    listener.progress(listener.context, TORCHREEL_DENOISE, call + 1, program.calls());
    bool due = request.latents_every > 0 && (call + 1) % request.latents_every == 0;
    if (due && call + 1 < program.calls()) report(sample, call + 1);
  };
  at::Tensor start = request.latents
                         ? at::from_blob(const_cast<float*>(request.latents), shape, at::kFloat).clone()
                         : noise.initial(latent_channels_, frames, height, width);
  at::Tensor latents = program.run(start.to(device_), hooks);
  check_finite(latents, "the unet");
  report(latents, program.calls());
  return latents;
}

void Pipeline::decode(const torchreel_request& request, const at::Tensor& latents,
                      const torchreel_listener& listener) {
  at::Tensor frames = latents.transpose(1, 2).flatten(0, 1) / scaling_factor_;  // (B·F, C, h, w)
  int64_t total = frames.size(0), chunk = std::max<int64_t>(1, request.decode_chunk);

  Resident resident(vae_, offload_);
  listener.progress(listener.context, TORCHREEL_DECODE, 0, total);
  for (int64_t first = 0; first < total; first += chunk) {
    stop_if_cancelled(listener);
    int64_t count = std::min(chunk, total - first);
    at::Tensor images =
        vae_.call("decode", {frames.narrow(0, first, count).to(dtype_)}).toTensor().to(at::kFloat);
    check_finite(images, "the VAE");
    at::Tensor pixels = (images * 0.5 + 0.5).clamp_(0, 1).mul_(255).round_().to(at::kByte);
    pixels = pixels.permute({0, 2, 3, 1}).to(at::kCPU).contiguous();  // (n, H, W, 3)
    listener.frames(listener.context, first, count, pixels.size(1), pixels.size(2),
                    pixels.const_data_ptr<uint8_t>());
    listener.progress(listener.context, TORCHREEL_DECODE, first + count, total);
  }
}

}  // namespace torchreel
