// What jobs of the small checkpoints cost on a device: the most bytes on it, bytes that are copied, waits,
// kernels. Counted, not timed, on the device that tests have (test/native/accelerator), so that any machine
// gives the same table. device_cost FIXTURES [VARIANT...], of: none model sequential capture-graph previews
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "checks.h"
#include "cost.h"

namespace {

constexpr int64_t steps = 3;

std::string kilobytes(int64_t bytes) { return std::to_string((bytes + 500) / 1000) + " kB"; }

void print(const std::string& name, const cost::Kind& kind) {
  cost::Cost job = cost::of_job(kind, steps), step = cost::of_step(kind);
  std::printf("| %s, %s | %s | %s | %s | %s | %s | %s | %lld | %lld | %lld |\n", kind.family.c_str(),
              kind.dtype.c_str(), name.c_str(), kilobytes(cost::promised(kind)).c_str(),
              kilobytes(job.peak).c_str(), kilobytes(job.resting).c_str(), kilobytes(job.to_device).c_str(),
              kilobytes(job.to_host).c_str(), static_cast<long long>(job.synchronizations),
              static_cast<long long>(step.synchronizations), static_cast<long long>(step.launches));
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  checks::set_up(arguments[1]);
  const std::vector<std::pair<std::string, cost::Kind>> variants{
      {"none", {}},
      {"model", {.offload = "model"}},
      {"sequential", {.offload = "sequential"}},
      {"capture-graph", {.records = true}},
      {"previews", {.previews = true}},
  };
  const std::vector<std::string> chosen(arguments + 2, arguments + count);
  std::printf("A video of 2 frames in %lld steps.\n\n", static_cast<long long>(steps));
  std::printf(
      "| | variant | weights at once, promised | most on the device | at rest | to the device | to the host "
      "| waits | waits a step | kernels a step |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const std::string family : {"modelscope", "wan"}) {
    for (const std::string dtype : {"float32", family == "wan" ? "bfloat16" : "float16"}) {
      for (auto [name, kind] : variants) {
        if (!chosen.empty() && std::find(chosen.begin(), chosen.end(), name) == chosen.end()) continue;
        kind.family = family;
        kind.dtype = dtype;
        print(name, kind);
      }
    }
  }
  return 0;
}
