// What a job costs on the device, against what ARCHITECTURE.md promises.
#include <algorithm>
#include <tuple>

#include "accelerator.h"
#include "checks.h"
#include "cost.h"

namespace checks {
namespace {

using cost::Cost;

std::string bytes(int64_t count) { return std::to_string(count) + " bytes"; }

}  // namespace

// 'none' holds all weights. 'model' holds one network's, and for a moment the next one's. 'sequential' holds
// of the denoiser two stages'. Beside them are activations, which are the same in all modes.
void bytes_on_device(Complaints& complaints) {
  for (const char* dtype : {"float32", "float16"}) {
    Cost none = cost::of_job({dtype, "none"}, 3), model = cost::of_job({dtype, "model"}, 3),
         sequential = cost::of_job({dtype, "sequential"}, 3);
    cost::Weights weights = cost::weights(dtype);
    int64_t activations = none.peak - none.resting;
    auto within = [&](const Cost& of, int64_t promised, const std::string& mode) {
      complaints.unless(of.peak <= promised + activations,
                        std::string(dtype) + ", offload '" + mode + "': at most " + bytes(promised) +
                            " of weights and " + bytes(activations) + " beside them, not " + bytes(of.peak));
    };
    int64_t pair = std::max(weights.text_encoder, weights.vae) + weights.denoiser;
    within(model, pair, "model");
    within(sequential, std::max({weights.text_encoder, weights.vae, weights.two_stages}), "sequential");
    complaints.unless(none.resting >= weights.text_encoder + weights.denoiser + weights.vae,
                      "offload 'none' keeps all weights on the device");
    for (const Cost* of : {&model, &sequential}) {
      complaints.unless(of->resting < weights.two_stages / 10, "at rest no weights are on the device");
      complaints.unless(of->pinned >= weights.denoiser + weights.vae,
                        "weights that go again are kept page-locked");
    }
    complaints.unless(sequential.denoiser_peak == weights.two_stages,
                      "while a stage computes the next one is copied: " + bytes(sequential.denoiser_peak) +
                          " of the denoiser, not " + bytes(weights.two_stages));
    complaints.unless(none.pinned == 0, "weights that stay are not kept page-locked");
  }
}

// Each weight goes over once in a call, none comes back.
void bytes_copied(Complaints& complaints) {
  for (const char* dtype : {"float32", "float16"}) {
    cost::Weights weights = cost::weights(dtype);
    constexpr int64_t steps = 3;
    Cost none = cost::of_job({dtype, "none"}, steps), model = cost::of_job({dtype, "model"}, steps),
         sequential = cost::of_job({dtype, "sequential"}, steps);
    complaints.unless(none.to_device <= cost::inputs(),
                      "with weights that stay only the job's inputs go over: " + bytes(none.to_device));
    int64_t all = weights.text_encoder + weights.denoiser + weights.vae;
    complaints.unless(model.to_device - none.to_device == all,
                      std::string(dtype) + ", offload 'model': each weight goes over once, " + bytes(all) +
                          ", not " + bytes(model.to_device - none.to_device));
    int64_t by_stages = weights.text_encoder + weights.vae + weights.prepared + steps * weights.step;
    complaints.unless(sequential.to_device - none.to_device == by_stages,
                      std::string(dtype) + ", offload 'sequential': each weight goes over once in a step, " +
                          bytes(by_stages) + ", not " + bytes(sequential.to_device - none.to_device));
    for (const Cost* of : {&none, &model, &sequential})
      complaints.unless(of->to_host == cost::results(dtype, steps),
                        "only results come back: " + bytes(of->to_host));
  }
}

// The loop waits for the device once a step, to see that its numbers are numbers.
void waits_and_launches(Complaints& complaints) {
  // Kernels of a step of the small checkpoint. Whoever changes its graph, or the loop, says so here.
  // A recorded step is one, beside what goes into it and what is made of its output.
  const std::tuple<const char*, int64_t, int64_t> dtypes[] = {{"float32", 767, 15}, {"float16", 840, 17}};
  auto expect = [&](const std::string& what, const char* unit, int64_t given, int64_t wanted) {
    complaints.unless(given == wanted,
                      what + ": " + std::to_string(wanted) + unit + ", not " + std::to_string(given));
  };
  for (const auto& [dtype, launches, of_recorded_step] : dtypes) {
    std::string name = dtype;
    for (const char* offload : {"none", "model", "sequential"}) {
      Cost step = cost::of_step({dtype, offload});
      std::string what = name + ", offload '" + offload + "', a step";
      // Each stage's copies are waited for, and each stage before its weights go.
      bool by_stages = std::string(offload) == "sequential";
      expect(what, " waits", step.synchronizations, 1 + (by_stages ? 2 * cost::weights(dtype).stages : 0));
      expect(what, " kernels", step.launches, launches);
    }
    constexpr int64_t steps = 3;
    Cost job = cost::of_job({dtype}, steps),
         with_previews = cost::of_job({.dtype = dtype, .previews = true}, steps);
    expect(name + ", a job", " waits", job.synchronizations, cost::waits(dtype, steps));
    // The last sample is reported in any case.
    expect(name + ", previews", " waits", with_previews.synchronizations - job.synchronizations, steps - 1);
    expect(name + ", previews", " kernels", with_previews.launches - job.launches, 0);
    expect(name + ", a step that is not checked", " waits",
           cost::of_step({.dtype = dtype, .unchecked = true}).synchronizations, 1);
    Cost recorded = cost::of_step({.dtype = dtype, .records = true});
    expect(name + ", a recorded step", " waits", recorded.synchronizations, 1);
    expect(name + ", a recorded step", " kernels", recorded.launches, of_recorded_step);
  }
}

}  // namespace checks
