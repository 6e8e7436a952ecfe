#include "denoising/program_on_frames.h"

#include <ATen/ops/empty_like.h>

#include <cstring>

#include "process/error.h"

namespace torchreel {
namespace {

// (N, C, h, w) frames as one video (1, C, N, h, w), and back.
at::Tensor as_video(const at::Tensor& frames) { return frames.transpose(0, 1).unsqueeze(0).contiguous(); }
at::Tensor as_frames(const at::Tensor& video) { return video.squeeze(0).transpose(0, 1).contiguous(); }

}  // namespace

void run_on_frames(const Program& program, const at::Tensor& sample, torchreel_model model, void* context,
                   const std::function<at::Tensor()>& noise, float* samples) {
  if (program.draws_noise() && !noise)
    throw invalid_argument("the program draws noise and needs a generator");
  Program::Hooks hooks;
  hooks.network = [&](const at::Tensor& input, double timestep, int64_t call) {
    at::Tensor frames = as_frames(input);
    at::Tensor output = at::empty_like(frames);
    if (model(context, frames.const_data_ptr<float>(), timestep, call, output.mutable_data_ptr<float>()))
      throw Error("ABORTED", "the model stopped the program");
    return as_video(output);
  };
  hooks.noise = [&] { return as_video(noise()); };
  hooks.after_call = [&](const at::Tensor& video, int64_t call) {
    at::Tensor frames = as_frames(video);
    std::memcpy(samples + call * frames.numel(), frames.const_data_ptr<float>(), frames.nbytes());
  };
  program.run(as_video(sample), hooks);
}

}  // namespace torchreel
