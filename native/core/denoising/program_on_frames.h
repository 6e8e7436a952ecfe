// A denoising program with a function instead of a network, over frames (N, C, h, w) instead of videos.
#pragma once

#include "denoising/program.h"
#include "torchreel_core.h"

namespace torchreel {

// See torchreel_core.run_program. `noise` gives standard normal numbers (N, C, h, w); null where there is no
// generator, for a program that draws none.
void run_on_frames(const Program& program, const at::Tensor& sample, torchreel_model model, void* context,
                   const std::function<at::Tensor()>& noise, float* samples);

}  // namespace torchreel
