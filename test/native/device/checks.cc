#include "checks.h"

#include <exception>

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
    for (const char* dtype : {"float32", "float16", "bfloat16"}) cost::weights(family, dtype);
  }
}

const std::vector<Check>& all() {
  static const auto* const list = [] {
    const std::pair<const char*, CheckFamily*> of_families[] = {
        {"offload 'none' computes as the CPU", none_as_on_cpu},
        {"offload 'model' computes as the CPU", model_as_on_cpu},
        {"offload 'sequential' computes as the CPU", sequential_as_on_cpu},
        {"half precision", half_precision},
        {"adapters", adapters},
        {"recorded steps", recorded_steps},
        {"bytes on the device", bytes_on_device},
        {"bytes copied", bytes_copied},
        {"waits and launches", waits_and_launches},
        {"refused memory", refused_memory},
        {"cancelled jobs", cancelled_jobs},
    };
    auto* checks = new std::vector<Check>;
    for (const std::string family : {"modelscope", "wan"}) {
      for (const auto& [name, run] : of_families) {
        checks->push_back({(family == "wan" ? "Wan: " : "") + std::string(name),
                           [run, family](Complaints& complaints) { run(complaints, family); }});
      }
    }
    checks->push_back({"pipelines together", pipelines_together});
    checks->push_back({"a lost device", lost_device});
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
                 const std::string& what) {
  if (!given.code.empty()) return complaints.unless(false, what + ": " + given.code + ": " + given.message);
  complaints.unless(!given.frames.empty() && given.frames == wanted.frames, what + ": the same frames");
  complaints.unless(given.latents == wanted.latents, what + ": the same latents");
  complaints.unless(given.previews == wanted.previews, what + ": the same previews");
}

}  // namespace checks
