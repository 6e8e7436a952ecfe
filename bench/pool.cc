// The savings of the pool for large tensors (native/core/process/cpu_memory): page faults, processor time,
// memory.
//   pool NETWORK GRAPH WEIGHTS TEXT_SIZE pool|malloc
// NETWORK: unet (guidance, 8 frames of 32 × 32 latents) or vae (one frame of 32 × 32 latents). Prints JSON:
// for each of three calls the page faults and the seconds of the processor, and the most memory that was
// resident.

#include <ATen/ops/randn.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/InferenceMode.h>
#include <sys/resource.h>

#include <iostream>
#include <memory>
#include <string>

#include "modelscope/unet.h"
#include "modelscope/vae.h"
#include "modelscope/weight_names.h"
#include "process/cpu_memory.h"

using namespace torchreel;

namespace {

rusage usage() {
  rusage now{};
  getrusage(RUSAGE_SELF, &now);
  return now;
}

double seconds(const timeval& before, const timeval& after) {
  return static_cast<double>(after.tv_sec - before.tv_sec) +
         1e-6 * static_cast<double>(after.tv_usec - before.tv_usec);
}

template <typename Call>
void measure(Call&& call) {
  std::cout << "{\"calls\": [";
  for (int index = 0; index < 3; ++index) {
    rusage before = usage();
    call();
    rusage after = usage();
    std::cout << (index > 0 ? ", " : "") << "{\"pageFaults\": " << after.ru_minflt - before.ru_minflt
              << ", \"user\": " << seconds(before.ru_utime, after.ru_utime)
              << ", \"system\": " << seconds(before.ru_stime, after.ru_stime) << "}";
  }
  std::cout << "], \"peakBytes\": " << usage().ru_maxrss * 1024 << "}\n";
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) return 2;
  std::string name = arguments[1];
  int64_t text_size = std::stol(arguments[4]);
  c10::InferenceMode inference;
  std::unique_ptr<PooledMemory> pooled;
  if (arguments[5] == std::string("pool")) pooled = std::make_unique<PooledMemory>();

  Network network({.role = name.c_str(), .graph = arguments[2], .weights = &arguments[3], .weight_count = 1},
                  at::kCPU, at::kFloat, {.names = modelscope::weight_names});
  if (name == "unet") {
    modelscope::UNet unet(network);
    WeightHold hold = unet.hold_weights();
    c10::IValue context = unet.prepare(at::randn({2, 77, text_size}));
    at::Tensor sample = at::randn({1, 4, 8, 32, 32}), time = at::scalar_tensor(500.0, at::kFloat);
    measure([&] { unet.forward(sample, time, context, {}); });
  } else {
    torchreel_listener listener{};
    listener.cancelled = [](void*) { return 0; };
    listener.warning = [](void*, const char*) {};
    modelscope::Vae vae(network, {{1, 1, 1, 1}, {0, 0, 0, 0}});
    WeightHold hold = vae.hold_weights();
    at::Tensor latents = at::randn({1, 4, 1, 32, 32});
    measure([&] { vae.decode(latents, {}, listener, [](int64_t, const at::Tensor&) {}); });
  }
}
