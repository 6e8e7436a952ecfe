// The core on a device that forgives nothing, or on TORCHREEL_TEST_DEVICE: there without the checks that
// count. `device_test FIXTURES [NAME]` makes one check.
#include <chrono>
#include <cstdio>
#include <string>

#include "checks.h"
#include "networks/device_graph.h"

#ifdef TORCHREEL_CUDA
extern "C" torchreel::DeviceGraph* torchreel_make_device_graph();  // native/cuda
#endif

int main(int count, char** arguments) {
#ifdef TORCHREEL_CUDA
  torchreel::set_device_graphs(at::kCUDA, torchreel_make_device_graph);
#endif
  checks::set_up(arguments[1]);
  bool failed = false;
  for (const checks::Check& check : checks::all()) {
    if (count > 2 && check.name != arguments[2]) continue;
    if (check.counts && !studio::is_standin()) continue;
    auto begin = std::chrono::steady_clock::now();
    std::vector<std::string> complaints = checks::complaints_of(check);
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("%s %s, %.1f s\n", complaints.empty() ? "ok    " : "FAILED", check.name.c_str(),
                seconds.count());
    for (const std::string& complaint : complaints) std::printf("       %s\n", complaint.c_str());
    std::fflush(stdout);
    failed = failed || !complaints.empty();
  }
  std::printf("allocations refused: %lld\n", static_cast<long long>(checks::refused_allocations()));
  return failed;
}
