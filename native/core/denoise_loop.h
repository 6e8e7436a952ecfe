// The denoising of one job.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "denoising/guidance.h"
#include "job.h"
#include "networks/denoiser.h"

namespace torchreel {

// Runs the job's program from `start` (B, C, f, h, w) to denoised latents of that shape, both float32 on the
// device, and reports steps and latents to the job's listener. `on_submitted` is called when the device has
// all work of the denoiser's last call, but may not have done it. Throws ABORTED, ERR_NUMERIC and what the
// denoiser throws.
at::Tensor denoise(Denoiser& denoiser, const Guidance& guidance, const at::Tensor& start, Job& job,
                   const std::function<void()>& on_submitted);

}  // namespace torchreel
