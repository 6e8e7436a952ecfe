// A whole job through the C ABI, as the addon runs it. bfloat16 stands in for an accelerator: the files are
// float32, so that the weights of each network are copied before it can compute.
#include "pipeline.h"

#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "check.h"
#include "torchreel_core.h"

namespace {

struct Files {
  explicit Files(const std::string& fixtures) {
    const std::pair<const char*, const char*> networks[] = {
        {"text_encoder", "model"}, {"unet", "diffusion_pytorch_model"}, {"vae", "diffusion_pytorch_model"}};
    for (const auto& [name, weights] : networks) {
      graphs.push_back(fixtures + "/../../models/graphs/tiny/" + name + ".pt");
      files.push_back(fixtures + "/tiny/checkpoint/" + name + "/" + weights + ".safetensors");
    }
    for (const std::string& file : files) pointers.push_back(file.c_str());
    const char* roles[] = {"text_encoder", "denoiser", "vae"};
    for (size_t i = 0; i < 3; ++i) list.push_back({roles[i], graphs[i].c_str(), &pointers[i], 1, nullptr, 0});
  }
  std::vector<std::string> graphs, files;
  std::vector<const char*> pointers;
  std::vector<torchreel_network_files> list;
};

const double scale[] = {0.18215, 0.18215, 0.18215, 0.18215}, mean[] = {0, 0, 0, 0};

void check_ok(int result, const torchreel_error& error) {
  check(result == 0, std::string(error.code) + ": " + error.message);
}

using Report = std::function<void(int stage, int64_t step, int64_t steps)>;

// Two calls of the program on one video of two frames; `report` is called as the job's listener.
void run(const torchreel_core& core, torchreel_pipeline* pipeline, const uint8_t* video,
         const Report& report) {
  const std::vector<int32_t> tokens(77, 1);
  const std::vector<double> program{0, 500, 1, 1, 0, 2, 0, 1, 1, -0.1, 0, 100, 1, 1, 0, 2, 0, 1, 1, -0.1};
  const double guidance[] = {3, 3};
  const uint64_t seed = 1;
  torchreel_request request{};
  request.videos = 1;
  request.prompts = request.negative_prompts = {tokens.data(), 77, nullptr, 0, nullptr, 0};
  request.frames = request.latent_frames = 2;
  request.latent_height = request.latent_width = 16;
  request.video = video;
  request.video_height = request.video_width = 64;
  request.program = program.data();
  request.program_length = program.size();
  request.guidance = guidance;
  request.guidance_length = 2;
  request.seeds = &seed;
  request.seed_count = 1;
  Report context = report;
  torchreel_listener listener{
      .context = &context,
      .cancelled = [](void*) { return 0; },
      .progress = [](void* context, int stage, int64_t step,
                     int64_t steps) { (*static_cast<Report*>(context))(stage, step, steps); },
      .latents = [](void*, int64_t, int64_t, const float*, const int64_t*) {},
      .frames = [](void*, int64_t, int64_t, int64_t, int64_t, const uint8_t*) {},
      .warning = [](void*, const char*) {},
      .threads = nullptr};
  torchreel_error error{};
  check_ok(core.pipeline_generate(pipeline, &request, &listener, &error), error);
}

torchreel_pipeline_options options_of(const Files& files, const char* dtype, const char* offload) {
  torchreel_pipeline_options options{};
  options.family = "modelscope";
  options.networks = files.list.data();
  options.network_count = files.list.size();
  options.device = "cpu";
  options.dtype = dtype;
  options.offload = offload;
  options.latent_channels = 4;
  options.latent_scale = scale;
  options.latent_mean = mean;
  options.max_header = 1 << 20;
  options.cancelled = [](void*) { return 0; };
  return options;
}

// With 'model' the weights of a network are copied while the network before it ends, and freed when its own
// turn ends.
void test_prefetch(const torchreel_core& core, const Files& files) {
  const torchreel_pipeline_options options = options_of(files, "bfloat16", "model");
  torchreel_pipeline* pipeline = nullptr;
  torchreel_error error{};
  check_ok(core.pipeline_open(&options, &pipeline, &error), error);
  torchreel_memory memory{};
  auto placed = [&] {
    check_ok(core.pipeline_memory(pipeline, &memory, &error), error);
    return std::string(memory.text_encoder.placed ? " text_encoder" : "") +
           (memory.denoiser.placed ? " denoiser" : "") + (memory.vae.placed ? " vae" : "");
  };
  auto check_placed = [&](const uint8_t* video, const std::vector<std::string>& expected) {
    std::vector<std::string> seen;
    run(core, pipeline, video, [&](int stage, int64_t step, int64_t) {
      const char* names[] = {"encode ", "denoise ", "decode "};
      seen.push_back(names[stage] + std::to_string(step) + ":" + placed());
    });
    for (size_t i = 0; i < std::max(seen.size(), expected.size()); ++i) {
      std::string got = i < seen.size() ? seen[i] : "nothing",
                  right = i < expected.size() ? expected[i] : "nothing";
      check(got == right, "placed at each report: expected '" + right + "', got '" + got + "'");
    }
    check(placed().empty(), "between jobs nothing is placed");
    check(memory.text_encoder.copied + memory.denoiser.copied + memory.vae.copied == 0, "nor copied");
  };
  check_placed(nullptr, {"encode 0:", "encode 1: denoiser", "denoise 0: denoiser", "denoise 1: denoiser",
                         "denoise 2: denoiser vae", "decode 0: vae", "decode 1: vae", "decode 2: vae"});
  std::vector<uint8_t> video(2 * 64 * 64 * 3, 90);
  check_placed(video.data(), {"encode 0:", "encode 1: vae", "encode 2: vae", "encode 3: vae",
                              "denoise 0: denoiser", "denoise 1: denoiser", "denoise 2: denoiser vae",
                              "decode 0: vae", "decode 1: vae", "decode 2: vae"});
  core.pipeline_close(pipeline);
}

// What a pipeline or a job refuses before it computes anything.
void test_refusals(const Files& files) {
  auto open = [&](const std::function<void(torchreel_pipeline_options&)>& change) {
    torchreel_pipeline_options options = options_of(files, "float32", "none");
    change(options);
    torchreel::Pipeline pipeline(options);
  };
  check_throws("ERR_INVALID_ARGUMENT", "no family",
               [&] { open([](auto& options) { options.family = "other"; }); });
  check_throws("ERR_INVALID_ARGUMENT", "no vae",
               [&] { open([](auto& options) { options.network_count = 2; }); });
  const double zero[] = {0, 1, 1, 1};
  check_throws("ERR_INVALID_ARGUMENT", "latentScale",
               [&] { open([&](auto& options) { options.latent_scale = zero; }); });
  check_throws("ABORTED", "cancelled",
               [&] { open([](auto& options) { options.cancelled = [](void*) { return 1; }; }); });

  torchreel::Pipeline pipeline(options_of(files, "float32", "none"));
  const std::vector<double> program{0, 500, 1, 1, 0, 2, 0, 1, 1, -0.1};
  const std::vector<int32_t> tokens(77, 1);
  torchreel_request request{};
  request.videos = 1;
  request.prompts = {tokens.data(), 77, nullptr, 0, nullptr, 0};
  request.program = program.data();
  request.program_length = program.size();
  request.frames = 5;
  request.latent_frames = 2;
  check_throws("ERR_INVALID_ARGUMENT", "2 latent frames are not 5 frames",
               [&] { pipeline.generate(request, {}); });
}

// The same tokens are encoded once, until an adapter changes.
void test_encodings(const Files& files) {
  torchreel::Pipeline pipeline(options_of(files, "float32", "none"));
  std::vector<int32_t> tokens(2 * 77, 1);
  auto encode = [&](int64_t prompts, int64_t clip_skip) {
    return pipeline.encode(prompts, {tokens.data(), 77 * 2 / prompts, nullptr, clip_skip, nullptr, 0}, [] {});
  };
  at::Tensor first = encode(2, 0);
  check(encode(2, 0).is_same(first), "the same tokens give the same tensor");
  check(!encode(2, 1).is_same(first), "other layers another");
  tokens[5] = 2;
  at::Tensor other = encode(2, 0);
  check(!other.is_same(first) && !other.equal(first), "and so do other tokens");
  tokens[5] = 1;
  check(encode(2, 0).is_same(first), "the ones before are still known");
  for (int32_t n = 0; n < 8; ++n) {
    tokens[5] = 10 + n;
    encode(2, 0);
  }
  tokens[5] = 1;
  at::Tensor again = encode(2, 0);
  check(!again.is_same(first) && again.equal(first), "not for ever: then they are encoded anew");
  pipeline.adapt({}, {});
  check(!encode(2, 0).is_same(again), "nor when adapters change");
}

}  // namespace

int main(int, char** arguments) {
  Files files(arguments[1]);
  test_prefetch(*torchreel_core_table(), files);
  c10::InferenceMode inference;
  test_refusals(files);
  test_encodings(files);
  return 0;
}
