// Pipelines of the small checkpoints on any device, through the C ABI, and the jobs that tests give them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "torchreel_core.h"

namespace studio {

// To be called once, with the folder of the tests' files. The checkpoints' weights are copied to files in
// which each begins at a multiple of 64 bytes, as the device's do: where weights lie otherwise, the CPU may
// give other last bits.
void use_fixtures(const std::string& folder);

// A family of models, by its small checkpoint.
struct Model {
  std::string name, graphs, checkpoint;  // the last two are folders
  std::vector<std::string> networks;     // folders in both: text encoder, denoiser, VAE
  int64_t channels, pixels;              // of latents; pixels of a side of one
  int64_t frames_of_latent;              // but for the first, which is one frame
  int64_t tokens, real_tokens;           // of a prompt; those that are no padding, if the family skips it
  int64_t embedding_size;
  int64_t words;  // tokens that there are
};
const Model& model(const std::string& family);

// 0 the text encoder, 1 the denoiser, 2 the VAE.
torchreel_network_files network_files(const std::string& family, size_t network);

// The devices that are tested: the two for tests, or those of TORCHREEL_TEST_DEVICE, such as "cuda". A
// machine with one GPU has that one twice.
std::string device(int number);
// Whether they are those for tests, which count, refuse and give the CPU's bytes.
bool is_standin();
int64_t allocated(int number);

struct Options {
  std::string family = "modelscope", device = "cpu", dtype = "float32", offload = "none";
  bool records = false;   // captureGraph
  bool compiled = false;  // with a compiled denoiser, for plain jobs
  double latent_scale = 0.18215;
};

struct Job {
  int64_t videos = 1, frames = 2, height = 8, width = 8;  // of latents
  int32_t word = 7;                                       // that the prompt is made of
  int64_t clip_skip = 0;
  bool guided = true, embedded = false;  // embedded: the prompts come as embeddings
  std::vector<double> program = {};      // empty: three Euler steps
  std::vector<double> guidance = {};     // empty: 3 in each call
  std::vector<uint64_t> seeds = {1};
  bool given_latents = false, from_video = false;
  std::vector<double> freeu = {};
  int64_t window = 0, window_overlap = 0, feature_cache = 1, tile = 0, tile_overlap = 0;
  int64_t latents_every = 0;
  bool allow_non_finite = false;
  // Called after every report of progress; true cancels the job.
  std::function<bool(int stage, int64_t step)> at = {};
};

struct Result {
  std::string code, message;  // empty: it went well
  std::vector<float> latents;
  std::vector<std::vector<float>> previews;
  std::vector<uint8_t> frames;
  std::vector<std::string> warnings;
};

class Pipeline {
 public:
  // A pipeline that could not be opened has an error and takes no jobs.
  explicit Pipeline(const Options& options);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  bool is_open() const { return pipeline_ != nullptr; }
  const std::string& code() const { return code_; }
  const std::string& message() const { return message_; }

  Result run(const Job& job);
  // Low-rank updates of a weight of the denoiser and, where adapters change it, one of the text encoder; with
  // a scale of 0, none. Gives the error's code, empty if it went well.
  std::string adapt(double scale);
  torchreel_memory memory() const;

 private:
  const Model& model_;
  torchreel_pipeline* pipeline_ = nullptr;
  std::string code_, message_;
};

// Calls with that many steps, which draw noise, clamp, threshold and combine: every instruction that there
// is.
std::vector<double> every_instruction();
std::vector<double> euler_steps(int64_t steps);

}  // namespace studio
