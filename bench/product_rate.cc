// How fast this machine multiplies matrices with this libtorch: the rate that the networks are compared with.
//   product_rate [DEVICE [DTYPE]]   cpu float32
// Prints JSON: FLOP/s of the median and the best of several products, and the sizes.

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <string>
#include <vector>

int main(int count, char** arguments) {
  at::Device device(count > 1 ? arguments[1] : "cpu");
  std::string dtype = count > 2 ? arguments[2] : "float32";
  at::ScalarType type = dtype == "float16" ? at::kHalf : dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
  // Nothing links libtorch_cuda. It is in the folder of libtorch_cpu, which is in the run path.
  if (!device.is_cpu() && !dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
    std::cerr << dlerror() << '\n';
    return 1;
  }

  c10::InferenceMode inference;
  constexpr int rounds = 15;
  int64_t size = device.is_cpu() ? 2048 : 8192;
  at::TensorOptions options(type);
  at::Tensor a = at::randn({size, size}, options.device(device));
  at::Tensor b = at::randn({size, size}, options.device(device));
  std::vector<double> rates;
  for (int round = 0; round < rounds + 2; ++round) {
    auto started = std::chrono::steady_clock::now();
    at::Tensor product = at::mm(a, b);
    if (!device.is_cpu())
      c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.has_index() ? device.index() : 0);
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
    if (round >= 2) rates.push_back(2.0 * size * size * size / seconds.count());
  }
  std::sort(rates.begin(), rates.end());
  std::cout << "{\"median\": " << rates[rounds / 2] << ", \"best\": " << rates.back()
            << ", \"size\": " << size << ", \"rounds\": " << rounds
            << ", \"threads\": " << at::get_num_threads() << "}\n";
}
