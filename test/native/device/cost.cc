#include "cost.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "accelerator.h"
#include "networks/network.h"
#include "process/devices.h"
#include "modelscope/weight_names.h"
#include "studio.h"

namespace cost {
namespace {

constexpr int device = 0;
constexpr int64_t frames = 2, height = 8, width = 8, channels = 4, tokens = 77, pixels = 4 * 4;

}  // namespace

Cost of_job(const std::string& dtype, const std::string& offload, int64_t steps, bool records, bool previews) {
  static auto* const known = new std::map<std::tuple<std::string, std::string, int64_t, bool, bool>, Cost>;
  Cost& cost = (*known)[{dtype, offload, steps, records, previews}];
  if (cost.peak > 0) return cost;
  studio::Pipeline pipeline({"standin:0", dtype, offload, records});
  cost.resting = accelerator::memory(device).allocated;
  accelerator::reset_counters();
  accelerator::reset_peak();
  studio::Job job;
  job.frames = frames;
  job.height = height;
  job.width = width;
  job.program = studio::euler_steps(steps);
  job.guidance = std::vector<double>(static_cast<size_t>(steps), 3.0);
  job.latents_every = previews ? 1 : 0;
  pipeline.run(job);
  accelerator::Counters counters = accelerator::counters(device);
  cost.to_device = counters.to_device;
  cost.to_host = counters.to_host;
  cost.synchronizations = counters.synchronizations;
  cost.launches = counters.launches;
  cost.peak = accelerator::memory(device).peak;
  cost.denoiser_peak = pipeline.memory().denoiser.peak_copied;
  cost.pinned = accelerator::pinned_bytes();
  return cost;
}

Cost of_step(const std::string& dtype, const std::string& offload, bool records) {
  Cost few = of_job(dtype, offload, 3, records), more = of_job(dtype, offload, 5, records);
  return {.to_device = (more.to_device - few.to_device) / 2,
          .to_host = (more.to_host - few.to_host) / 2,
          .synchronizations = (more.synchronizations - few.synchronizations) / 2,
          .launches = (more.launches - few.launches) / 2};
}

Cost of_preview(const std::string& dtype) {
  constexpr int64_t steps = 3;  // the last is reported in any case
  Cost without = of_job(dtype, "none", steps), with = of_job(dtype, "none", steps, false, true);
  return {.to_device = (with.to_device - without.to_device) / (steps - 1),
          .to_host = (with.to_host - without.to_host) / (steps - 1),
          .synchronizations = (with.synchronizations - without.synchronizations) / (steps - 1),
          .launches = (with.launches - without.launches) / (steps - 1)};
}

Weights weights(const std::string& dtype) {
  static auto* const known = new std::map<std::string, Weights>;
  Weights& weights = (*known)[dtype];
  if (weights.stages > 0) return weights;
  auto bytes = [&](size_t network) {
    torchreel::Network one(studio::network_files(network), torchreel::device_named("standin:0"),
                           torchreel::dtype_named(dtype), {.names = torchreel::modelscope::weight_names});
    std::vector<int64_t> stages;
    for (size_t stage = 0; stage < one.stages(); ++stage) {
      auto hold = one.place(stage);
      stages.push_back(one.memory().copied);
    }
    return stages;
  };
  weights.text_encoder = bytes(0).front();
  weights.vae = bytes(2).front();
  std::vector<int64_t> stages = bytes(1);
  weights.prepared = stages.front();
  weights.stages = static_cast<int64_t>(stages.size()) - 1;
  for (size_t stage = 1; stage < stages.size(); ++stage) {
    weights.step += stages[stage];
    weights.two_stages = std::max(weights.two_stages, stages[stage] + (stage > 1 ? stages[stage - 1] : 0));
  }
  weights.denoiser = weights.prepared + weights.step;
  return weights;
}

int64_t inputs() {
  int64_t noise = channels * frames * height * width * 4, ids = 2 * tokens * 8;
  return noise + ids;
}

int64_t results(int64_t steps) {
  int64_t latents = channels * frames * height * width * 4, video = frames * height * width * pixels * 3;
  // Whether they are finite: of the two prompts, of each step, and of the VAE's images, which in half precision the
  // VAE asks itself, too.
  return latents + video + 2 + steps + 1;
}

}  // namespace cost
