#include "cost.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "accelerator.h"
#include "families.h"
#include "networks/network.h"
#include "process/devices.h"
#include "studio.h"

namespace cost {
namespace {

constexpr int device = 1;                                          // the checks of a lost device leave it be
constexpr int64_t frames = 2, height = 8, width = 8, prompts = 2;  // frames of latents
// Numbers that Wan's `prepare` writes into the bias of each prompt. TorchScript copies each to the device.
constexpr int64_t biases = 3 * prompts;

auto& known_jobs() {
  static auto* const known = new std::map<std::pair<Kind, int64_t>, Cost>;
  return *known;
}

const studio::Model& model_of(const Kind& kind) { return studio::model(kind.family); }

// How often decoded frames come: Wan's VAE gives those of a latent at a time.
int64_t chunks(const Kind& kind) { return kind.family == "wan" ? frames : 1; }

// Whether numbers are finite, a byte each: the prompts', each step's, the images'. In float16 the first
// family's VAE asks, too.
int64_t questions(const Kind& kind, int64_t steps) {
  bool vae_asks = kind.dtype == "float16" && kind.family == "modelscope";
  return prompts + steps + chunks(kind) + (vae_asks ? 1 : 0);
}

int64_t latent_bytes(const Kind& kind) { return model_of(kind).channels * frames * height * width * 4; }

Cost difference(const Cost& more, const Cost& less) {
  return {.to_device = more.to_device - less.to_device,
          .to_host = more.to_host - less.to_host,
          .synchronizations = more.synchronizations - less.synchronizations,
          .launches = more.launches - less.launches};
}

}  // namespace

void forget() { known_jobs().clear(); }

Cost of_job(const Kind& kind, int64_t steps) {
  Cost& cost = known_jobs()[{kind, steps}];
  if (cost.peak > 0) return cost;
  studio::Pipeline pipeline({kind.family, "standin:1", kind.dtype, kind.offload, kind.records});
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
  cost.text_encoder_peak = pipeline.memory().text_encoder.peak_copied;
  cost.denoiser_peak = pipeline.memory().denoiser.peak_copied;
  cost.pinned = accelerator::pinned_bytes();
  return cost;
}

Cost of_step(const Kind& kind) { return difference(of_job(kind, 4), of_job(kind, 3)); }

Weights weights(const std::string& family, const std::string& dtype) {
  static auto* const known = new std::map<std::pair<std::string, std::string>, Weights>;
  Weights& weights = (*known)[{family, dtype}];
  if (weights.stages > 0) return weights;
  const torchreel::Family& of = torchreel::family_named(family);
  const torchreel::Precision precision = of.precision(torchreel::dtype_named(dtype));
  auto bytes = [&](size_t network) {
    at::ScalarType of_network = network == 0   ? precision.text_encoder
                                : network == 1 ? precision.denoiser
                                               : precision.vae;
    torchreel::Network one(studio::network_files(family, network), torchreel::device_named("standin:1"),
                           of_network, {.names = of.weight_names});
    std::vector<int64_t> stages;
    for (size_t stage = 0; stage < one.stages(); ++stage) {
      int64_t before = accelerator::memory(device).allocated;
      auto hold = one.place(stage);
      stages.push_back(one.memory().copied);
      weights.rounding += accelerator::memory(device).allocated - before - stages.back();
    }
    return stages;
  };
  auto most_of_two = [](const std::vector<int64_t>& stages) {
    int64_t most = 0;
    for (size_t stage = 1; stage < stages.size(); ++stage)
      most = std::max(most, stages[stage] + (stage > 1 ? stages[stage - 1] : 0));
    return most;
  };
  std::vector<int64_t> text = bytes(0), denoiser = bytes(1);
  if (text.size() > 1) text.front() = 0;  // the table of embeddings stays on the host
  weights.text_encoder = std::reduce(text.begin(), text.end());
  weights.two_layers = text.size() > 1 ? most_of_two(text) : weights.text_encoder;
  weights.text_stages = static_cast<int64_t>(text.size()) - 1;
  weights.vae = bytes(2).front();
  weights.prepared = denoiser.front();
  weights.denoiser = std::reduce(denoiser.begin(), denoiser.end());
  weights.step = weights.denoiser - weights.prepared;
  weights.two_stages = most_of_two(denoiser);
  weights.stages = static_cast<int64_t>(denoiser.size()) - 1;
  return weights;
}

int64_t promised(const Kind& kind) {
  const Weights of = weights(kind.family, kind.dtype);
  const int64_t text_or_vae = std::max(of.two_layers, of.vae);
  if (kind.offload == "none") return of.held() + (of.text_stages ? of.two_layers : 0);
  return kind.offload == "model" ? text_or_vae + of.denoiser : std::max(text_or_vae, of.two_stages);
}

int64_t inputs(const Kind& kind) {
  const studio::Model& model = model_of(kind);
  if (kind.family == "modelscope") return latent_bytes(kind) + prompts * model.tokens * 8;
  // The rows of the prompts' tokens, the layers of the text encoder, and the biases.
  int64_t size = kind.dtype == "float32" ? 4 : 2;
  return latent_bytes(kind) + (prompts * model.real_tokens * model.embedding_size + biases) * size +
         weights(kind.family, kind.dtype).text_encoder;
}

int64_t results(const Kind& kind, int64_t steps) {
  const studio::Model& model = model_of(kind);
  int64_t images = model.frames_of_latent * (frames - 1) + 1;
  return latent_bytes(kind) + images * height * width * model.pixels * model.pixels * 3 +
         questions(kind, steps);
}

int64_t waits(const Kind& kind, int64_t steps) {
  int64_t latents_copied = 1, tokens_copied = prompts;
  if (kind.family == "wan") {
    // Rows of the table; each weight, which is not page-locked, each layer when it came and when it goes.
    constexpr int64_t weights_of_text_encoder = 31;
    tokens_copied = 1 + weights_of_text_encoder + 2 * weights(kind.family, kind.dtype).text_stages + biases;
  }
  return tokens_copied + questions(kind, steps) + latents_copied + chunks(kind);
}

}  // namespace cost
