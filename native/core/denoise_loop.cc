#include "denoise_loop.h"

#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <string>
#include <vector>

#include "denoising/windows.h"
#include "process/devices.h"
#include "process/faults.h"
#include "process/job_checks.h"
#include "process/threads.h"

namespace torchreel {
namespace {

FreeU read_freeu(const torchreel_request& request) {
  FreeU freeu;
  if (request.freeu) std::copy_n(request.freeu, 4, freeu.emplace().begin());
  return freeu;
}

void report_latents(const torchreel_listener& listener, const at::Tensor& sample, int64_t step,
                    int64_t steps) {
  at::Tensor host = sample.to(at::kCPU).contiguous();
  listener.latents(listener.context, step, steps, host.const_data_ptr<float>(), host.sizes().data());
}

}  // namespace

at::Tensor denoise(Denoiser& denoiser, const Guidance& guidance, const at::Tensor& start, Job& job,
                   const std::function<void()>& on_submitted) {
  const torchreel_request& request = job.request;
  const torchreel_listener& listener = job.listener;
  const int64_t steps = job.program.calls();
  const at::Device device = start.device();
  const FreeU freeu = read_freeu(request);
  std::vector<FeatureCache> caches(count_windows(start.size(2), request.window, request.window_overlap),
                                   {.interval = request.feature_cache});
  listener.progress(listener.context, TORCHREEL_DENOISE, 0, steps);

  Program::Hooks hooks;
  hooks.network = [&](const at::Tensor& sample, double timestep, int64_t call) {
    take_threads(listener);
    at::Tensor time = at::scalar_tensor(timestep, at::TensorOptions(at::kFloat).device(device));
    auto run_window = [&](const at::Tensor& x, size_t window) {
      stop_if_cancelled(listener);
      StepOptions options{.freeu = freeu, .cache = request.feature_cache > 1 ? &caches[window] : nullptr};
      at::Tensor output =
          denoiser.forward(x.to(job.dtype), time, guidance.context(call), options).to(at::kFloat);
      faults::spoil(output);
      return guidance.combine(output, call);
    };
    at::Tensor output = in_windows(sample, request.window, request.window_overlap, run_window);
    if (call + 1 == steps) on_submitted();
    return output;
  };
  hooks.noise = [&] {
    return to_device(job.noise.step(start.size(1), start.size(2), start.size(3), start.size(4)), device);
  };
  // The host waits for the device here, once a step: otherwise progress would report submitted work, and
  // cancelling would come steps late.
  hooks.after_call = [&](const at::Tensor& sample, int64_t call) {
    int64_t step = call + 1;
    if (request.allow_non_finite)
      wait_for(device);
    else
      check_finite(sample, "the denoiser in step " + std::to_string(step), "denoise", step);
    listener.progress(listener.context, TORCHREEL_DENOISE, step, steps);
    bool due = request.latents_every > 0 && step % request.latents_every == 0;
    if (due && step < steps) report_latents(listener, sample, step, steps);
  };
  at::Tensor latents = job.program.run(start, hooks);
  report_latents(listener, latents, steps, steps);
  return latents;
}

}  // namespace torchreel
