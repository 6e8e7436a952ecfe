// What jobs of the small checkpoint cost on the device: for the checks, which hold them, and for bench/device_cost,
// which prints them.
#pragma once

#include <cstdint>
#include <string>

namespace cost {

struct Cost {
  int64_t to_device = 0, to_host = 0;  // bytes
  int64_t synchronizations = 0, launches = 0;
  int64_t peak = 0;           // most bytes on the device
  int64_t resting = 0;        // bytes on it before the job
  int64_t denoiser_peak = 0;  // most bytes of the denoiser's weights
  int64_t pinned = 0;         // page-locked bytes after the job
};

// The first job of a new pipeline, with guidance, without its opening.
Cost of_job(const std::string& dtype, const std::string& offload, int64_t steps, bool records = false,
            bool previews = false);
// One step of it: what two more steps add, halved.
Cost of_step(const std::string& dtype, const std::string& offload, bool records = false);
// One preview.
Cost of_preview(const std::string& dtype);

// Bytes of the networks' weights on the device.
struct Weights {
  int64_t text_encoder = 0, denoiser = 0, vae = 0;
  int64_t prepared = 0;    // of the denoiser, what `prepare` takes
  int64_t step = 0;        // of the denoiser, what a step takes
  int64_t two_stages = 0;  // of the denoiser, the most that two neighbouring stages have
  int64_t stages = 0;      // of a step
};
Weights weights(const std::string& dtype);

// Bytes that a job takes of the host without its weights, and gives to it.
int64_t inputs();
int64_t results(int64_t steps);

}  // namespace cost
