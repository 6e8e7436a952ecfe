// The same seed gives the CPU's frames, whatever the device, and however the networks get there.
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Job;
using studio::Pipeline;
using studio::Result;

bool opened(Complaints& complaints, const Pipeline& pipeline) {
  complaints.unless(pipeline.is_open(), pipeline.code() + ": " + pipeline.message());
  return pipeline.is_open();
}

void as_on_cpu(Complaints& complaints, const std::string& family, const std::string& offload) {
  {
    Pipeline pipeline({.family = family, .device = studio::device(1), .offload = offload});
    if (!opened(complaints, pipeline)) return;
    for (const std::string& name : jobs_of(family))
      expect_same(complaints, pipeline.run(job(name)), on_cpu(family, name), name);
    complaints.unless(pipeline.memory().allocated == studio::allocated(1),
                      "memory() says what is on the device");
  }
  accelerator::Counters other = accelerator::counters(0);
  complaints.unless(other.launches + other.allocations + other.to_device + other.synchronizations == 0,
                    "a pipeline on one device leaves the other alone");
  complaints.unless(accelerator::memory(1).allocated == 0, "a pipeline that is closed leaves no bytes");
}

}  // namespace

void none_as_on_cpu(Complaints& complaints, const std::string& family) {
  as_on_cpu(complaints, family, "none");
}
void model_as_on_cpu(Complaints& complaints, const std::string& family) {
  as_on_cpu(complaints, family, "model");
}
void sequential_as_on_cpu(Complaints& complaints, const std::string& family) {
  as_on_cpu(complaints, family, "sequential");
}

void half_precision(Complaints& complaints, const std::string& family) {
  const std::pair<const char*, double> dtypes[] = {{"float16", 0.01}, {"bfloat16", 0.05}};
  for (const auto& [dtype, tolerance] : dtypes) {
    Result first;
    for (const char* offload : {"none", "model", "sequential"}) {
      Pipeline pipeline({.family = family, .device = studio::device(0), .dtype = dtype, .offload = offload});
      if (!opened(complaints, pipeline)) return;
      Result result = pipeline.run(job("a video in tiles"));
      std::string what = std::string(dtype) + " with offload '" + offload + "'";
      double error = relative_error(result.latents, on_cpu(family, "a video in tiles").latents);
      complaints.unless(result.code.empty() && error < tolerance && error > 0,
                        what + " is " + std::to_string(error) + " off " + result.message);
      if (first.frames.empty()) first = result;
      expect_same(complaints, result, first, what, tolerance);
    }
  }
  if (family != "modelscope") return;
  // Latents whose numbers float16 does not have.
  constexpr double tiny = 1e-7;
  Pipeline half({.family = family, .device = studio::device(0), .dtype = "float16", .latent_scale = tiny});
  Pipeline exact({.family = family, .latent_scale = tiny});
  if (!opened(complaints, half) || !opened(complaints, exact)) return;
  for (const char* name : {"plain", "a video in tiles"}) {
    Result result = half.run(job(name)), wanted = exact.run(job(name));
    complaints.unless(
        result.code.empty() && result.warnings.size() == 1 &&
            result.warnings[0].starts_with("the VAE overflowed float16"),
        std::string(name) + ": a VAE that overflows float16 is computed in float32, " + result.message);
    int largest = 0;
    for (size_t i = 0; i < std::min(result.frames.size(), wanted.frames.size()); ++i)
      largest = std::max(largest, std::abs(result.frames[i] - wanted.frames[i]));
    complaints.unless(!result.frames.empty() && largest < 16,
                      std::string(name) + " is " + std::to_string(largest) + " off the CPU's float32");
  }
}

void adapters(Complaints& complaints, const std::string& family) {
  complaints.unless(on_cpu(family, "adapted").frames != on_cpu(family, "plain").frames,
                    "adapters change what is computed");
  for (const char* offload : {"none", "model", "sequential"}) {
    Pipeline pipeline({.family = family, .device = studio::device(1), .offload = offload});
    if (!opened(complaints, pipeline)) return;
    std::string what = std::string("offload '") + offload + "', ";
    expect_same(complaints, pipeline.run(job("plain")), on_cpu(family, "plain"), what + "before");
    std::string refused = pipeline.adapt(1);
    complaints.unless(refused.empty(), what + "adapters are taken, not " + refused);
    expect_same(complaints, pipeline.run(job("adapted")), on_cpu(family, "adapted"), what + "with adapters");
    pipeline.adapt(0);
    expect_same(complaints, pipeline.run(job("plain")), on_cpu(family, "plain"), what + "without them again");
  }
}

void recorded_steps(Complaints& complaints, const std::string& family) {
  for (const char* offload : {"none", "model"}) {
    Pipeline plain({.family = family, .device = studio::device(1), .offload = offload});
    Pipeline recorded({.family = family, .device = studio::device(1), .offload = offload, .records = true});
    if (!opened(complaints, recorded)) return;
    auto same = [&](const Job& job, const std::string& what) {
      Result wanted = plain.run(job);
      expect_same(complaints, recorded.run(job), wanted, std::string("offload '") + offload + "', " + what);
    };
    same({.program = studio::euler_steps(4), .guidance = {3, 3, 3, 3}}, "recorded in a job");
    same({.word = 9}, "another prompt");
    same({.guidance = {3, 1, 1}}, "the prompt alone");
    if (family == "modelscope") {
      same({.frames = 4, .window = 2, .window_overlap = 1}, "windows");
      same({.freeu = {0.9, 0.2, 1.2, 1.4}}, "FreeU");
    }
    plain.adapt(1);
    recorded.adapt(1);
    same({}, "other weights");
    same({}, "the same again");
  }
  complaints.unless(accelerator::counters(0).launches == 0, "the other device is left alone");
  complaints.unless(accelerator::memory(1).allocated == 0, "recordings leave no bytes");
}

void pipelines_together(Complaints& complaints) {
  const std::string name = "every instruction";
  const std::pair<std::string, std::string> pairs[] = {{studio::device(0), studio::device(1)},
                                                       {studio::device(1), studio::device(1)}};
  for (const auto& [first, second] : pairs) {
    const std::string families[] = {"modelscope", "wan"};
    Result results[2];
    auto run = [&](const std::string& device, const char* offload, size_t index) {
      Pipeline pipeline({.family = families[index], .device = device, .offload = offload});
      results[index] = pipeline.is_open() ? pipeline.run(job(name))
                                          : Result{pipeline.code(), pipeline.message(), {}, {}, {}, {}};
    };
    std::thread other([&] { run(second, "sequential", 1); });
    run(first, "model", 0);
    other.join();
    for (size_t index : {0, 1})
      expect_same(complaints, results[index], on_cpu(families[index], name),
                  families[index] + ", " + first + " beside " + second);
  }
}

}  // namespace checks
