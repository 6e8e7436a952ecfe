// What a job costs on the device, against what ARCHITECTURE.md promises.
#include <algorithm>
#include <string>
#include <vector>

#include "accelerator.h"
#include "checks.h"
#include "cost.h"

namespace checks {
namespace {

using cost::Cost;

std::string bytes(int64_t count) { return std::to_string(count) + " bytes"; }

// That each family is used in: Wan's own is bfloat16.
std::vector<std::string> dtypes_of(const std::string& family) {
  return {"float32", family == "wan" ? "bfloat16" : "float16"};
}

// The same jobs in each mode of offload.
struct Modes {
  Modes(const std::string& family, const std::string& dtype)
      : weights(cost::weights(family, dtype)),
        none(cost::of_job({.dtype = dtype, .offload = "none", .family = family}, steps)),
        model(cost::of_job({.dtype = dtype, .offload = "model", .family = family}, steps)),
        sequential(cost::of_job({.dtype = dtype, .offload = "sequential", .family = family}, steps)) {}
  static constexpr int64_t steps = 3;
  cost::Weights weights;
  Cost none, model, sequential;
};

// Kernels of a step of a small checkpoint. Whoever changes its graph, or the loop, says so here. A recorded
// step is one, beside what goes into it and what is made of its output.
struct Launches {
  int64_t step, recorded_step;
};
Launches launches(const std::string& family, const std::string& dtype) {
  if (family == "wan") return dtype == "float32" ? Launches{110, 15} : Launches{146, 17};
  return dtype == "float32" ? Launches{581, 15} : Launches{840, 17};
}

}  // namespace

// 'none' holds all weights. 'model' holds one network's, and for a moment the next one's. 'sequential' holds
// of the denoiser two stages'. Beside them are activations, which are the same in all modes. Of a text
// encoder that has layers two are there.
void bytes_on_device(Complaints& complaints, const std::string& family) {
  for (const std::string& dtype : dtypes_of(family)) {
    const auto [weights, none, model, sequential] = Modes(family, dtype);
    int64_t activations = none.peak - none.resting;
    for (const auto& [mode, peak] : {std::pair{"model", model.peak}, {"sequential", sequential.peak}}) {
      int64_t promised = cost::promised({.dtype = dtype, .offload = mode, .family = family});
      complaints.unless(peak <= promised + weights.rounding + activations,
                        dtype + ", offload '" + mode + "': at most " + bytes(promised) + " of weights and " +
                            bytes(activations) + " beside them, not " + bytes(peak));
    }
    complaints.unless(none.resting >= weights.held(), "offload 'none' keeps all weights on the device");
    for (const Cost* of : {&model, &sequential}) {
      complaints.unless(of->resting < weights.two_stages / 10, "at rest no weights are on the device");
      complaints.unless(of->pinned >= weights.denoiser + weights.vae,
                        "weights that go again are kept page-locked");
    }
    complaints.unless(sequential.denoiser_peak == weights.two_stages,
                      "while a stage computes the next one is copied: " + bytes(sequential.denoiser_peak) +
                          " of the denoiser, not " + bytes(weights.two_stages));
    complaints.unless(none.text_encoder_peak == weights.two_layers, "of the text encoder there are " +
                                                                        bytes(none.text_encoder_peak) +
                                                                        ", not " + bytes(weights.two_layers));
    complaints.unless(none.pinned == 0, "weights that stay are not kept page-locked");
  }
}

// Each weight goes over once in a call, none comes back.
void bytes_copied(Complaints& complaints, const std::string& family) {
  for (const std::string& dtype : dtypes_of(family)) {
    auto [weights, none, model, sequential] = Modes(family, dtype);
    int64_t inputs = cost::inputs({.dtype = dtype, .family = family});
    int64_t results = cost::results({.dtype = dtype, .family = family}, Modes::steps);
    complaints.unless(none.to_device <= inputs,
                      dtype + ", with weights that stay only the job's inputs go over: " + bytes(inputs) +
                          ", not " + bytes(none.to_device));
    complaints.unless(model.to_device - none.to_device == weights.held(),
                      dtype + ", offload 'model': each weight goes over once, " + bytes(weights.held()) +
                          ", not " + bytes(model.to_device - none.to_device));
    int64_t by_stages = weights.held() + (Modes::steps - 1) * weights.step;
    complaints.unless(sequential.to_device - none.to_device == by_stages,
                      dtype + ", offload 'sequential': each weight goes over once in a step, " +
                          bytes(by_stages) + ", not " + bytes(sequential.to_device - none.to_device));
    for (const Cost* of : {&none, &model, &sequential})
      complaints.unless(of->to_host == results, "only results come back: " + bytes(of->to_host));
  }
}

// The loop waits for the device once a step, to see that its numbers are numbers.
void waits_and_launches(Complaints& complaints, const std::string& family) {
  auto expect = [&](const std::string& what, const char* unit, int64_t given, int64_t wanted) {
    complaints.unless(given == wanted,
                      what + ": " + std::to_string(wanted) + unit + ", not " + std::to_string(given));
  };
  for (const std::string& dtype : dtypes_of(family)) {
    const Launches kernels = launches(family, dtype);
    for (const char* offload : {"sequential", "model", "none"}) {
      Cost step = cost::of_step({.dtype = dtype, .offload = offload, .family = family});
      std::string what = dtype + ", offload '" + offload + "', a step";
      // Each stage's copies are waited for, and each stage before its weights go.
      bool by_stages = std::string(offload) == "sequential";
      int64_t waits = by_stages ? 1 + 2 * cost::weights(family, dtype).stages : 1;
      expect(what, " waits", step.synchronizations, waits);
      expect(what, " kernels", step.launches, kernels.step);
    }
    constexpr int64_t steps = Modes::steps;
    const cost::Kind plain{.dtype = dtype, .family = family};
    Cost job = cost::of_job(plain, steps),
         with_previews = cost::of_job({.dtype = dtype, .previews = true, .family = family}, steps);
    expect(dtype + ", a job", " waits", job.synchronizations, cost::waits(plain, steps));
    // The last sample is reported in any case.
    expect(dtype + ", previews", " waits", with_previews.synchronizations - job.synchronizations, steps - 1);
    expect(dtype + ", previews", " kernels", with_previews.launches - job.launches, 0);
    expect(dtype + ", a step that is not checked", " waits",
           cost::of_step({.dtype = dtype, .unchecked = true, .family = family}).synchronizations, 1);
    Cost recorded = cost::of_step({.dtype = dtype, .records = true, .family = family});
    expect(dtype + ", a recorded step", " waits", recorded.synchronizations, 1);
    expect(dtype + ", a recorded step", " kernels", recorded.launches, kernels.recorded_step);
  }
}

}  // namespace checks
