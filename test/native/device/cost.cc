#include "cost.h"

#include <algorithm>
#include <map>
#include <utility>

#include "accelerator.h"
#include "modelscope/weight_names.h"
#include "networks/network.h"
#include "process/devices.h"
#include "studio.h"

namespace cost {
namespace {

constexpr int device = 0;
constexpr int64_t frames = 2, height = 8, width = 8, channels = 4, tokens = 77, pixels = 4 * 4;

auto& known_jobs() {
  static auto* const known = new std::map<std::pair<Kind, int64_t>, Cost>;
  return *known;
}

// Whether numbers are finite, a byte each: the two prompts', each step's, the images'. In float16 the VAE
// asks, too.
int64_t questions(const std::string& dtype, int64_t steps) {
  return 2 + steps + 1 + (dtype == "float16" ? 1 : 0);
}

Cost difference(const Cost& more, const Cost& less, int64_t times) {
  return {.to_device = (more.to_device - less.to_device) / times,
          .to_host = (more.to_host - less.to_host) / times,
          .synchronizations = (more.synchronizations - less.synchronizations) / times,
          .launches = (more.launches - less.launches) / times};
}

}  // namespace

void forget() { known_jobs().clear(); }

Cost of_job(const Kind& kind, int64_t steps) {
  Cost& cost = known_jobs()[{kind, steps}];
  if (cost.peak > 0) return cost;
  studio::Pipeline pipeline({"standin:0", kind.dtype, kind.offload, kind.records});
  if (!pipeline.is_open()) return cost;
  cost.resting = accelerator::memory(device).allocated;
  accelerator::reset_counters();
  accelerator::reset_peak();
  studio::Job job;
  job.frames = frames;
  job.height = height;
  job.width = width;
  job.program = studio::euler_steps(steps);
  job.guidance = std::vector<double>(static_cast<size_t>(steps), 3.0);
  job.latents_every = kind.previews ? 1 : 0;
  job.allow_non_finite = kind.unchecked;
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

Cost of_step(const Kind& kind) { return difference(of_job(kind, 5), of_job(kind, 3), 2); }

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

int64_t results(const std::string& dtype, int64_t steps) {
  int64_t latents = channels * frames * height * width * 4, video = frames * height * width * pixels * 3;
  return latents + video + questions(dtype, steps);
}

int64_t waits(const std::string& dtype, int64_t steps) {
  int64_t tokens_copied = 2, latents_copied = 1, frames_copied = 1;
  return tokens_copied + questions(dtype, steps) + latents_copied + frames_copied;
}

}  // namespace cost
