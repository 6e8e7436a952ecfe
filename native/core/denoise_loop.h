// The denoising of one job.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "denoising/noise.h"
#include "denoising/program.h"
#include "networks/denoiser.h"
#include "torchreel_core.h"

namespace torchreel {

// Where and how the denoiser computes.
struct ComputeType {
  at::Device device;
  at::ScalarType dtype;
};

// Embeddings (B, L, D) on the device; `negative` is undefined without guidance.
struct EmbeddedTexts {
  at::Tensor prompts, negative;
};

// Runs the program from `start` (B, C, f, h, w) to denoised latents of that shape, both float32 on the
// device, and reports steps and latents to the listener. `queued` is called when the device has all work of
// the last call of the denoiser, but may not have done it. Throws ABORTED, ERR_NUMERIC and what the denoiser
// throws.
at::Tensor denoise(Denoiser& denoiser, const ComputeType& type, const Program& program,
                   const at::Tensor& start, const EmbeddedTexts& texts, NoiseSource& noise,
                   const torchreel_request& request, const torchreel_listener& listener,
                   const std::function<void()>& queued);

}  // namespace torchreel
