// Each fault of faults.py, ordered one at a time, is seen by the check that is there for it.
#include <chrono>
#include <cstdio>
#include <string>

#include "checks.h"
#include "left_out.h"

namespace {

struct Fault {
  std::string name, seen_by;
};

const std::vector<Fault> faults{
#include "faults.inc"
};

const checks::Check& named(const std::string& name) {
  for (const checks::Check& check : checks::all()) {
    if (check.name == name) return check;
  }
  std::fprintf(stderr, "there is no check %s\n", name.c_str());
  std::abort();
}

}  // namespace

int main(int count, char** arguments) {
  checks::set_up(arguments[1]);
  int unseen = 0;
  for (const Fault& fault : faults) {
    if (count > 2 && fault.name != arguments[2]) continue;
    auto begin = std::chrono::steady_clock::now();
    leave_out(fault.name);
    std::vector<std::string> complaints = checks::complaints_of(named(fault.seen_by), /*one=*/true);
    leave_out("");
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("%s %s, %.1f s: %s\n", complaints.empty() ? "UNSEEN" : "seen  ", fault.name.c_str(),
                seconds.count(), complaints.empty() ? fault.seen_by.c_str() : complaints.back().c_str());
    std::fflush(stdout);
    unseen += complaints.empty();
  }
  // Without a fault nobody complains, after all of them.
  for (const char* name : {"offload 'sequential' computes as the CPU", "bytes copied"}) {
    for (const std::string& complaint : checks::complaints_of(named(name))) {
      std::printf("FAILED without a fault: %s\n", complaint.c_str());
      ++unseen;
    }
  }
  return unseen > 0;
}
