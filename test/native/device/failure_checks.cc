// What a job leaves behind when the device has no memory for it, or is lost.
#include <cstdlib>

#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Job;
using studio::Pipeline;
using studio::Result;

// Allocations that are refused: the first ones, which differ most, and some of all others; all of them where
// TORCHREEL_TEST_EVERY_ALLOCATION is set, which takes minutes.
int64_t after(int64_t n) {
  static const bool every = std::getenv("TORCHREEL_TEST_EVERY_ALLOCATION");
  return n < 30 || every ? n + 1 : n + 61;
}

constexpr int64_t remembered = 8;  // lists of prompts whose embeddings a pipeline keeps

// With embeddings that no pipeline remembers.
Job small_job() {
  static int32_t word = 100;
  Job small = job("small");
  small.word = ++word;
  return small;
}

void refuse_while_opening(Complaints& complaints, const studio::Options& options) {
  accelerator::reset_counters();
  { Pipeline whole(options); }
  int64_t count = accelerator::counters(0).allocations;
  for (int64_t n = 1; n <= count; n = after(n)) {
    accelerator::refuse_allocation(0, n);
    Pipeline pipeline(options);
    std::string where = "offload '" + options.offload + "', allocation " + std::to_string(n) +
                        " of the opening's " + std::to_string(count) + " refused: ";
    complaints.unless(!pipeline.is_open() && pipeline.code() == "ERR_OUT_OF_MEMORY", where + pipeline.code());
    complaints.unless(accelerator::memory(0).allocated == 0, where + "all bytes go back");
  }
}

void refuse_in_jobs(Complaints& complaints, const studio::Options& options) {
  Pipeline pipeline(options);
  for (int64_t i = 0; i < remembered; ++i) pipeline.run(small_job());
  accelerator::reset_counters();
  pipeline.run(small_job());
  int64_t count = accelerator::counters(0).allocations, resting = accelerator::memory(0).allocated;
  for (int64_t n = 1; n <= count; n = after(n)) {
    accelerator::refuse_allocation(0, n);
    Result refused = pipeline.run(small_job());
    std::string where = "offload '" + options.offload + "', allocation " + std::to_string(n) +
                        " of a job's " + std::to_string(count) + " refused: ";
    complaints.unless(refused.code == "ERR_OUT_OF_MEMORY", where + refused.code + " " + refused.message);
    int64_t more = accelerator::memory(0).allocated - resting;
    complaints.unless(more == 0, where + "all bytes go back, not all but " + std::to_string(more));
  }
  accelerator::refuse_allocation(0, 0);
  expect_same(complaints, pipeline.run(job("small")), on_cpu("small"),
              "offload '" + options.offload + "', the next job");
}

}  // namespace

void refused_memory(Complaints& complaints) {
  for (const char* offload : {"none", "model", "sequential"}) {
    const studio::Options options{.device = "standin:0", .offload = offload};
    refuse_while_opening(complaints, options);
    refuse_in_jobs(complaints, options);
    complaints.unless(accelerator::memory(0).allocated == 0, "nothing stays");
  }
  // A change of adapters that finds no memory leaves the weights before it.
  Pipeline pipeline({.device = "standin:0"});
  accelerator::refuse_allocation(0, 100);
  std::string code = pipeline.adapt(1);
  complaints.unless(code == "ERR_OUT_OF_MEMORY", "adapters that find no memory: " + code);
  expect_same(complaints, pipeline.run(job("plain")), on_cpu("plain"), "after adapters that found no memory");
}

void lost_device(Complaints& complaints) {
  Pipeline lost({.device = "standin:0", .offload = "sequential"}), other({.device = "standin:1"});
  complaints.unless(lost.is_open() && other.is_open(), lost.message() + other.message());
  if (!lost.is_open() || !other.is_open()) return;
  accelerator::lose_device(0, 400);
  Result result = lost.run(job("plain"));
  complaints.unless(result.code == "ERR_DEVICE_LOST", "it says that the device is lost: " + result.code);
  complaints.unless(result.message.find("restart the process") != std::string::npos, "and what to do");
  accelerator::restore();
  accelerator::reset_counters();
  result = lost.run(job("plain"));
  complaints.unless(result.code == "ERR_DEVICE_LOST", "and says so again: " + result.code);
  complaints.unless(accelerator::counters(0).launches + accelerator::counters(0).allocations == 0,
                    "without trying");
  complaints.unless(Pipeline({.device = "standin:0"}).code() == "ERR_DEVICE_LOST", "to other pipelines, too");
  expect_same(complaints, other.run(job("plain")), on_cpu("plain"), "the other device works");
}

}  // namespace checks
