// What a job leaves behind when the device has no memory for it, or is lost.
#include <algorithm>
#include <cstdlib>

#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Job;
using studio::Pipeline;
using studio::Result;

int64_t refused = 0;

// Calls `try_one` with allocations that are to be refused: with some of the first ones, which differ most,
// and of all others; with each where TORCHREEL_TEST_EVERY_ALLOCATION is set, which takes minutes.
template <typename Try>
void each_allocation(int64_t first, int64_t last, Try&& try_one) {
  static const bool every = std::getenv("TORCHREEL_TEST_EVERY_ALLOCATION");
  constexpr int64_t few = 5;
  const int64_t stride = every ? 1 : std::max<int64_t>(1, (last - first) / few);
  for (int64_t n = first; n <= last; n += n < first + few ? 1 : stride) {
    try_one(n);
    ++refused;
  }
}

constexpr int64_t remembered_prompts = 8;  // lists of prompts whose embeddings a pipeline keeps

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
  each_allocation(1, count, [&](int64_t n) {
    accelerator::refuse_allocation(0, n);
    Pipeline pipeline(options);
    std::string where = "offload '" + options.offload + "', allocation " + std::to_string(n) +
                        " of the opening's " + std::to_string(count) + " refused: ";
    complaints.unless(!pipeline.is_open() && pipeline.code() == "ERR_OUT_OF_MEMORY", where + pipeline.code());
    complaints.unless(accelerator::memory(0).allocated == 0, where + "all bytes go back");
  });
}

void refuse_in_jobs(Complaints& complaints, const studio::Options& options) {
  Pipeline pipeline(options);
  for (int64_t i = 0; i < remembered_prompts; ++i) pipeline.run(small_job());
  accelerator::reset_counters();
  pipeline.run(small_job());
  int64_t count = accelerator::counters(0).allocations, resting = accelerator::memory(0).allocated;
  each_allocation(1, count, [&](int64_t n) {
    accelerator::refuse_allocation(0, n);
    Result result = pipeline.run(small_job());
    std::string where = "offload '" + options.offload + "', allocation " + std::to_string(n) +
                        " of a job's " + std::to_string(count) + " refused: ";
    complaints.unless(result.code == "ERR_OUT_OF_MEMORY", where + result.code + " " + result.message);
    int64_t more = accelerator::memory(0).allocated - resting;
    complaints.unless(more == 0, where + "all bytes go back, not all but " + std::to_string(more));
    accelerator::refuse_allocation(0, 0);
    expect_same(complaints, pipeline.run(job("small")), on_cpu(options.family, "small"),
                where + "the next job");
  });
}

// A recording that finds no memory is none, and what it took goes back.
void refuse_while_recording(Complaints& complaints, const std::string& family) {
  Job two_steps = job("small");
  two_steps.program = studio::euler_steps(2);
  two_steps.guidance = {3, 3};
  Pipeline plain({.family = family, .device = "standin:0"});
  Result wanted = plain.run(two_steps);
  auto allocations = [&](bool records) {
    Pipeline pipeline({.family = family, .device = "standin:0", .records = records});
    accelerator::reset_counters();
    pipeline.run(two_steps);
    return accelerator::counters(0).allocations;
  };
  int64_t count = allocations(true);
  each_allocation(count / 3, count, [&](int64_t n) {
    Pipeline pipeline({.family = family, .device = "standin:0", .records = true});
    accelerator::refuse_allocation(0, n);
    std::string where =
        "a recording, allocation " + std::to_string(n) + " of " + std::to_string(count) + " refused: ";
    Result result = pipeline.run(two_steps);
    complaints.unless(result.code == "ERR_OUT_OF_MEMORY", where + result.code + " " + result.message);
    expect_same(complaints, pipeline.run(two_steps), wanted, where + "the next job");
  });
}

}  // namespace

int64_t refused_allocations() { return refused; }

void refused_memory(Complaints& complaints, const std::string& family) {
  for (const char* offload : {"none", "model", "sequential"}) {
    const studio::Options options{.family = family, .device = "standin:0", .offload = offload};
    refuse_while_opening(complaints, options);
    refuse_in_jobs(complaints, options);
    complaints.unless(accelerator::memory(0).allocated == 0, "nothing stays");
  }
  refuse_while_recording(complaints, family);
  // A change of adapters that finds no memory leaves the weights before it.
  Pipeline pipeline({.family = family, .device = "standin:0"});
  accelerator::refuse_allocation(0, 100);
  std::string code = pipeline.adapt(1);
  accelerator::refuse_allocation(0, 0);
  complaints.unless(code == "ERR_OUT_OF_MEMORY", "adapters that find no memory: " + code);
  expect_same(complaints, pipeline.run(job("plain")), on_cpu(family, "plain"),
              "after adapters that found no memory");
}

void cancelled_jobs(Complaints& complaints, const std::string& family) {
  for (const char* offload : {"none", "model", "sequential"}) {
    Pipeline pipeline({.family = family, .device = studio::device(1), .offload = offload});
    for (int64_t i = 0; i < remembered_prompts; ++i) pipeline.run(small_job());
    int64_t resting = studio::allocated(1);
    for (int stage : {TORCHREEL_ENCODE, TORCHREEL_DENOISE, TORCHREEL_DECODE}) {
      for (int64_t step : {0, 1}) {
        if (stage == TORCHREEL_DECODE && step == 1) continue;  // both frames are decoded at once
        Job cancelled = job("a video in tiles");
        cancelled.word = small_job().word;
        cancelled.at = [&](int at_stage, int64_t at_step) { return at_stage == stage && at_step == step; };
        Result result = pipeline.run(cancelled);
        std::string where = std::string("offload '") + offload + "', cancelled in stage " +
                            std::to_string(stage) + " at step " + std::to_string(step) + ": ";
        complaints.unless(result.code == "ABORTED", where + result.code + " " + result.message);
        int64_t more = studio::allocated(1) - resting;
        complaints.unless(more == 0, where + "all bytes go back, not all but " + std::to_string(more));
      }
    }
    expect_same(complaints, pipeline.run(job("small")), on_cpu(family, "small"),
                std::string(offload) + ", the next job");
  }
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
  for (const char* name : {"standin:0", "standin"})
    complaints.unless(Pipeline({.device = name}).code() == "ERR_DEVICE_LOST", "to other pipelines, too");
  expect_same(complaints, other.run(job("plain")), on_cpu("modelscope", "plain"), "the other device works");
}

}  // namespace checks
