// What a job leaves behind when the device has no memory for it, or is lost.
#include <algorithm>

#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Job;
using studio::Pipeline;
using studio::Result;

constexpr int64_t all_of_the_first = 40, every = 61;  // allocations that are refused; the rest differ in little

}  // namespace

void refused_memory(Complaints& complaints) {
  const Job job{.frames = 1, .height = 4, .width = 4, .program = studio::euler_steps(1), .guidance = {3}};
  for (const char* offload : {"none", "model", "sequential"}) {
    const studio::Options options{.device = "standin:0", .offload = offload};
    std::string what = std::string("offload '") + offload + "', ";
    Result wanted = Pipeline({}).run(job);

    accelerator::reset_counters();
    { Pipeline whole(options); }
    int64_t opening = accelerator::counters(0).allocations;
    for (int64_t n = 1; n <= opening; n += n < all_of_the_first ? 1 : every) {
      accelerator::refuse_allocation(0, n);
      Pipeline pipeline(options);
      std::string where = what + "allocation " + std::to_string(n) + " of " + std::to_string(opening) + " refused";
      complaints.unless(!pipeline.is_open() && pipeline.code() == "ERR_OUT_OF_MEMORY", where + ": " + pipeline.code());
      complaints.unless(accelerator::memory(0).allocated == 0, where + ": all bytes go back");
    }
    accelerator::refuse_allocation(0, 0);

    Pipeline pipeline(options);
    int64_t resting = accelerator::memory(0).allocated;
    accelerator::reset_counters();
    { Pipeline(options).run(job); }
    int64_t whole = accelerator::counters(0).allocations - opening;
    for (int64_t n = 1; n <= whole; n += n < all_of_the_first ? 1 : every) {
      std::string where = what + "allocation " + std::to_string(n) + " of " + std::to_string(whole) + " refused";
      accelerator::refuse_allocation(0, n);
      Job other = job;
      other.word = 100 + static_cast<int32_t>(n);  // that is not remembered
      Result refused = pipeline.run(other);
      complaints.unless(refused.code == "ERR_OUT_OF_MEMORY", where + ": " + refused.code + " " + refused.message);
      // What is remembered of prompts stays.
      complaints.unless(accelerator::memory(0).allocated <= resting + 16 * 1024 * 1024 / 100,
                        where + ": all bytes go back, not " + std::to_string(accelerator::memory(0).allocated - resting));
    }
    accelerator::refuse_allocation(0, 0);
    expect_same(complaints, pipeline.run(job), wanted, what + "the next job");
  }
  complaints.unless(accelerator::memory(0).allocated == 0, "nothing stays");

  // A device that is too small for all weights takes a job by stages.
  accelerator::limit_memory(0, 6 << 20);
  complaints.unless(Pipeline({.device = "standin:0"}).code() == "ERR_OUT_OF_MEMORY", "all weights are too much");
  Result by_stages = Pipeline({.device = "standin:0", .offload = "sequential"}).run(job);
  complaints.unless(by_stages.code == "" || by_stages.code == "ERR_OUT_OF_MEMORY", by_stages.code);
  accelerator::limit_memory(0, 0);
}

void lost_device(Complaints& complaints) {
  const Job job{};
  Result wanted = Pipeline({}).run(job);
  Pipeline lost({.device = "standin:0", .offload = "sequential"}), other({.device = "standin:1"});
  accelerator::lose_device(0, 400);
  Result result = lost.run(job);
  complaints.unless(result.code == "ERR_DEVICE_LOST", "it says that the device is lost: " + result.code);
  complaints.unless(result.message.find("restart the process") != std::string::npos, "and what to do");
  accelerator::reset_counters();
  result = lost.run(job);
  complaints.unless(result.code == "ERR_DEVICE_LOST", "and says so again: " + result.code);
  complaints.unless(accelerator::counters(0).launches + accelerator::counters(0).allocations == 0,
                    "without trying");
  complaints.unless(Pipeline({.device = "standin:0"}).code() == "ERR_DEVICE_LOST", "to other pipelines, too");
  expect_same(complaints, other.run(job), wanted, "the other device works");
}

}  // namespace checks
