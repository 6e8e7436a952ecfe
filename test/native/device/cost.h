// What jobs of the small checkpoints cost on the device: for the checks, which hold them, and for
// bench/device_cost, which prints them.
#pragma once

#include <cstdint>
#include <string>

namespace cost {

struct Cost {
  int64_t to_device = 0, to_host = 0;  // bytes
  int64_t synchronizations = 0, launches = 0;
  int64_t peak = 0;                                  // most bytes on the device
  int64_t resting = 0;                               // bytes on it before the job
  int64_t text_encoder_peak = 0, denoiser_peak = 0;  // most bytes of their weights
  int64_t pinned = 0;                                // page-locked bytes after the job
};

struct Kind {
  std::string dtype = "float32", offload = "none";
  bool records = false;
  bool previews = false;   // after each step
  bool unchecked = false;  // allowNonFinite
  std::string family = "modelscope";
  auto operator<=>(const Kind&) const = default;
};

// The first job of a new pipeline, with guidance, without the pipeline's opening. Jobs of the same kind are
// run once, until `forget`.
Cost of_job(const Kind& kind, int64_t steps);
void forget();
// One step of it: what a fourth one adds.
Cost of_step(const Kind& kind);

// Bytes of the networks' weights on the device.
struct Weights {
  int64_t text_encoder = 0, denoiser = 0, vae = 0;
  int64_t two_layers = 0;   // of the text encoder, the most that are there at once
  int64_t prepared = 0;     // of the denoiser, what `prepare` takes
  int64_t step = 0;         // of the denoiser, what a step takes
  int64_t two_stages = 0;   // of the denoiser, the most that two neighbouring stages have
  int64_t stages = 0;       // of a step
  int64_t text_stages = 0;  // of the text encoder, if it never is there as a whole
  int64_t rounding = 0;     // of all: what the device's allocator adds
  // What 'none' holds on the device between jobs.
  int64_t held() const { return (text_stages ? 0 : text_encoder) + denoiser + vae; }
};
Weights weights(const std::string& family, const std::string& dtype);

// The most bytes of weights that a mode of offload has on the device: all; one network's and the next one's;
// two stages'.
int64_t promised(const Kind& kind);

// Of a job of a kind with offload 'none' and so many steps: bytes that the device takes of the host without
// the weights that stay, and gives to it; how often the host waits.
int64_t inputs(const Kind& kind);
int64_t results(const Kind& kind, int64_t steps);
int64_t waits(const Kind& kind, int64_t steps);

}  // namespace cost
