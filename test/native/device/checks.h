// What must hold of the core on a device. Each check gives its complaints in place of ending the process:
// with the core as it is there are none, and of each fault that is ordered one check at least complains.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "studio.h"

namespace checks {

class Complaints {
 public:
  struct Enough {};

  // `one`: the first complaint, or violation, ends the check by throwing Enough.
  explicit Complaints(bool one) : one_(one) {}
  void unless(bool holds, const std::string& complaint);
  const std::vector<std::string>& all() const { return all_; }

 private:
  bool one_;
  std::vector<std::string> all_;
};

struct Check {
  std::string name;
  bool counts;  // needs the device for tests
  std::function<void(Complaints& complaints)> run;
};

// In the order that they run; the last one loses its devices for the rest of the process.
const std::vector<Check>& all();

// To be called first, while no fault is ordered: computes on the CPU what the checks want.
void set_up(const std::string& fixtures);

// Whatever the check says, what a GPU would not have forgiven, and what was thrown.
std::vector<std::string> complaints_of(const Check& check, bool one = false);

// A job that went well, and gave to the byte what another gave; on a GPU, up to rounding: float32's, or that
// of `rounding`.
void expect_same(Complaints& complaints, const studio::Result& given, const studio::Result& wanted,
                 const std::string& what, double rounding = 1e-3);

// ‖given − wanted‖ / ‖wanted‖; 1 for another number of numbers.
template <typename Number>
double relative_error(const std::vector<Number>& given, const std::vector<Number>& wanted) {
  if (given.size() != wanted.size()) return 1;
  double difference = 0, size = 0;
  for (size_t i = 0; i < given.size(); ++i) {
    difference += std::pow(static_cast<double>(given[i]) - static_cast<double>(wanted[i]), 2);
    size += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

// Jobs that together pass through all of the core, and what the CPU makes of them. "adapted" is a plain job
// after Pipeline::adapt(1).
const studio::Job& job(const std::string& name);
const studio::Result& on_cpu(const std::string& family, const std::string& name);
// Those that each mode of offload does.
const std::vector<std::string>& jobs_of(const std::string& family);

// The checks themselves, for each family of models, each in a file with its like.
using CheckFamily = void(Complaints& complaints, const std::string& family);
CheckFamily none_as_on_cpu, model_as_on_cpu, sequential_as_on_cpu, half_precision, adapters, recorded_steps;
CheckFamily bytes_on_device, bytes_copied, waits_and_launches, refused_memory, cancelled_jobs;
void pipelines_together(Complaints& complaints);
void compiled_step(Complaints& complaints);
void lost_device(Complaints& complaints);

// Allocations that `refused_memory` had refused so far.
int64_t refused_allocations();

}  // namespace checks
