// The same seed gives the CPU's frames, whatever the device, and however the networks get there.
#include <algorithm>
#include <cmath>
#include <map>
#include <thread>

#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Job;
using studio::Pipeline;
using studio::Result;

// Jobs that together pass through all of the core.
const std::map<std::string, Job>& jobs() {
  static const auto* const all = new std::map<std::string, Job>{
      {"every instruction", {.program = studio::every_instruction(), .guidance = {3, 1, 3}, .latents_every = 1}},
      {"given latents and FreeU", {.clip_skip = 1, .given_latents = true, .freeu = {0.9, 0.2, 1.2, 1.4}}},
      {"a video in tiles", {.height = 12, .from_video = true, .tile = 8, .tile_overlap = 2}},
      {"windows and kept features",
       {.frames = 5, .window = 3, .window_overlap = 1, .feature_cache = 2}},
      {"two videos of embeddings",
       {.videos = 2, .guided = false, .embedded = true, .seeds = {3, 4}}},
  };
  return *all;
}

const Result& on_cpu(const std::string& name) {
  static auto* const results = new std::map<std::string, Result>;
  if (results->empty()) {
    Pipeline cpu({});
    for (const auto& [name, job] : jobs()) results->emplace(name, cpu.run(job));
  }
  return results->at(name);
}

void as_on_cpu(Complaints& complaints, const std::string& offload) {
  {
    Pipeline pipeline({.device = "standin:1", .offload = offload});
    complaints.unless(pipeline.is_open(), pipeline.code() + ": " + pipeline.message());
    if (!pipeline.is_open()) return;
    for (const auto& [name, job] : jobs()) expect_same(complaints, pipeline.run(job), on_cpu(name), name);
  }
  accelerator::Counters other = accelerator::counters(0);
  complaints.unless(other.launches == 0 && other.allocations == 0 && other.to_device == 0,
                    "a pipeline on one device leaves the other alone");
  complaints.unless(accelerator::memory(1).allocated == 0, "a pipeline that is closed leaves no bytes");
}

double relative_error(const std::vector<float>& given, const std::vector<float>& wanted) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < std::min(given.size(), wanted.size()); ++i) {
    difference += std::pow(given[i] - wanted[i], 2);
    size += std::pow(wanted[i], 2);
  }
  return given.size() == wanted.size() ? std::sqrt(difference / size) : 1;
}

}  // namespace

void none_as_on_cpu(Complaints& complaints) { as_on_cpu(complaints, "none"); }
void model_as_on_cpu(Complaints& complaints) { as_on_cpu(complaints, "model"); }
void sequential_as_on_cpu(Complaints& complaints) { as_on_cpu(complaints, "sequential"); }

void half_precision(Complaints& complaints) {
  const std::pair<const char*, double> dtypes[] = {{"float16", 0.01}, {"bfloat16", 0.05}};
  const Job& job = jobs().at("a video in tiles");
  for (const auto& [dtype, tolerance] : dtypes) {
    Result first;
    for (const char* offload : {"none", "model", "sequential"}) {
      Pipeline pipeline({.device = "standin:0", .dtype = dtype, .offload = offload});
      Result result = pipeline.run(job);
      std::string what = std::string(dtype) + " with offload '" + offload + "'";
      double error = relative_error(result.latents, on_cpu("a video in tiles").latents);
      complaints.unless(result.code.empty() && error < tolerance && error > 0,
                        what + " is " + std::to_string(error) + " off " + result.message);
      if (first.frames.empty()) first = result;
      expect_same(complaints, result, first, what);
    }
  }
}

void adapters(Complaints& complaints) {
  const Job job{.guided = false};
  Pipeline cpu({});
  Result plain = cpu.run(job);
  cpu.adapt(1);
  Result adapted = cpu.run(job);
  complaints.unless(adapted.frames != plain.frames, "adapters change what is computed");
  for (const char* offload : {"none", "model", "sequential"}) {
    Pipeline pipeline({.device = "standin:1", .offload = offload});
    std::string what = std::string("offload '") + offload + "'";
    expect_same(complaints, pipeline.run(job), plain, what + ", before");
    complaints.unless(pipeline.adapt(1).empty(), what + ": they are taken");
    expect_same(complaints, pipeline.run(job), adapted, what + ", with adapters");
    pipeline.adapt(0);
    expect_same(complaints, pipeline.run(job), plain, what + ", without them again");
  }
}

void recorded_steps(Complaints& complaints) {
  for (const char* offload : {"none", "model"}) {
    Pipeline plain({.device = "standin:1", .offload = offload});
    Pipeline recorded({.device = "standin:1", .offload = offload, .records = true});
    complaints.unless(recorded.is_open(), recorded.code() + ": " + recorded.message());
    if (!recorded.is_open()) return;
    auto same = [&](const Job& job, const std::string& what) {
      Result wanted = plain.run(job);
      expect_same(complaints, recorded.run(job), wanted, std::string("offload '") + offload + "', " + what);
    };
    same({.program = studio::euler_steps(4), .guidance = {3, 3, 3, 3}}, "recorded in a job");
    same({.word = 9}, "another prompt");
    same({.guidance = {3, 1, 1}}, "the prompt alone");
    same({.frames = 4, .window = 2, .window_overlap = 1}, "windows");
    same({.freeu = {0.9, 0.2, 1.2, 1.4}}, "FreeU");
    plain.adapt(1);
    recorded.adapt(1);
    same({}, "other weights");
    same({}, "the same again");
  }
  complaints.unless(accelerator::counters(0).launches == 0, "the other device is left alone");
  complaints.unless(accelerator::memory(1).allocated == 0, "recordings leave no bytes");
}

void pipelines_together(Complaints& complaints) {
  const Job job{.latents_every = 1};
  Result wanted = Pipeline({}).run(job);
  const std::pair<const char*, const char*> pairs[] = {{"standin:0", "standin:1"}, {"standin:1", "standin:1"}};
  for (const auto& [first, second] : pairs) {
    Result results[2];
    auto run = [&](const char* device, const char* offload, Result& result) {
      Pipeline pipeline({.device = device, .offload = offload});
      result = pipeline.run(job);
    };
    std::thread other([&] { run(second, "sequential", results[1]); });
    run(first, "model", results[0]);
    other.join();
    for (const Result& result : results)
      expect_same(complaints, result, wanted, std::string(first) + " beside " + second);
  }
}

}  // namespace checks
