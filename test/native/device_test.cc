// The core on a device that forgives nothing. `device_test FIXTURES [NAME]` makes one check.
#include <chrono>
#include <cstdio>
#include <string>

#include "checks.h"

int main(int count, char** arguments) {
  checks::set_up(arguments[1]);
  bool failed = false;
  for (const checks::Check& check : checks::all()) {
    if (count > 2 && check.name != arguments[2]) continue;
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
