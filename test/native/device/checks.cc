#include "checks.h"

#include <algorithm>
#include <exception>
#include <tuple>

#include "accelerator.h"
#include "cost.h"
#include "networks/device_graph.h"

namespace checks {
namespace {

class RecordedGraph final : public torchreel::DeviceGraph {
 public:
  void begin() override { recording_.begin(); }
  void end() override { recording_.end(); }
  void replay() override { recording_.replay(); }

 private:
  accelerator::Recording recording_;
};

}  // namespace

void Complaints::unless(bool holds, const std::string& complaint) {
  if (!holds) all_.push_back(complaint);
  if (!one_) return;
  for (std::string& violation : accelerator::violations()) all_.push_back(std::move(violation));
  if (!all_.empty()) throw Enough();
}

void set_up(const std::string& fixtures) {
  studio::use_fixtures(fixtures);
  torchreel::set_device_graphs(at::kPrivateUse1,
                               []() -> torchreel::DeviceGraph* { return new RecordedGraph; });
  for (const char* family : {"modelscope", "wan"}) {
    on_cpu(family, "plain");
    if (!studio::is_standin()) continue;
    for (const char* dtype : {"float32", "float16", "bfloat16"}) cost::weights(family, dtype);
  }
}

const std::vector<Check>& all() {
  static const auto* const list = [] {
    const std::tuple<const char*, bool, CheckFamily*> of_families[] = {
        {"offload 'none' computes as the CPU", false, none_as_on_cpu},
        {"offload 'model' computes as the CPU", false, model_as_on_cpu},
        {"offload 'sequential' computes as the CPU", false, sequential_as_on_cpu},
        {"half precision", false, half_precision},
        {"adapters", false, adapters},
        {"recorded steps", false, recorded_steps},
        {"bytes on the device", true, bytes_on_device},
        {"bytes copied", true, bytes_copied},
        {"waits and launches", true, waits_and_launches},
        {"refused memory", true, refused_memory},
        {"cancelled jobs", false, cancelled_jobs},
    };
    auto* checks = new std::vector<Check>;
    for (const std::string family : {"modelscope", "wan"}) {
      for (const auto& [name, counts, run] : of_families) {
        checks->push_back({(family == "wan" ? "Wan: " : "") + std::string(name), counts,
                           [run, family](Complaints& complaints) { run(complaints, family); }});
      }
    }
    checks->push_back({"pipelines together", false, pipelines_together});
    checks->push_back({"a compiled step", true, compiled_step});
    checks->push_back({"a lost device", true, lost_device});
    return checks;
  }();
  return *list;
}

std::vector<std::string> complaints_of(const Check& check, bool one) {
  Complaints complaints(one);
  cost::forget();
  accelerator::violations();
  accelerator::reset_counters();
  accelerator::reset_peak();
  try {
    check.run(complaints);
  } catch (const Complaints::Enough&) {
  } catch (const std::exception& error) {
    complaints = Complaints(false);
    complaints.unless(false, std::string("it threw: ") + error.what());
  }
  std::vector<std::string> all = complaints.all();
  for (std::string& violation : accelerator::violations()) all.push_back(std::move(violation));
  accelerator::restore();
  return all;
}

void expect_same(Complaints& complaints, const studio::Result& given, const studio::Result& wanted,
                 const std::string& what, double rounding) {
  if (!given.code.empty()) return complaints.unless(false, what + ": " + given.code + ": " + given.message);
  const double most = studio::is_standin() ? 0 : rounding;
  auto same = [&](const auto& one, const auto& other, const char* name) {
    double error = relative_error(one, other);
    complaints.unless(error <= most, what + ": the same " + name + ", not " + std::to_string(error) + " off");
  };
  complaints.unless(!given.frames.empty() && given.previews.size() == wanted.previews.size(),
                    what + ": all frames and previews");
  same(given.frames, wanted.frames, "frames");
  same(given.latents, wanted.latents, "latents");
  for (size_t i = 0; i < std::min(given.previews.size(), wanted.previews.size()); ++i)
    same(given.previews[i], wanted.previews[i], "previews");
}

}  // namespace checks
