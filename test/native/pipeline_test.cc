// A whole job through the C ABI, as the addon runs it. bfloat16 stands in for an accelerator: the files are
// float32, so that each network is copied before it can compute.
#include "pipeline.h"

#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

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
  }
  torchreel_network_files network(size_t index) const { return {graphs[index].c_str(), &pointers[index], 1}; }
  std::vector<std::string> graphs, files;
  std::vector<const char*> pointers;
};

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
  request.prompts = request.negative_prompts = {tokens.data(), 77, 0, nullptr, 0};
  request.frames = 2;
  request.latent_height = request.latent_width = 16;
  request.video = video;
  request.video_height = request.video_width = 64;
  request.program = program.data();
  request.program_length = program.size();
  request.guidance = guidance;
  request.guidance_length = 2;
  request.seeds = &seed;
  request.seed_count = 1;
  request.decode_chunk = 1;
  Report context = report;
  torchreel_listener listener{
      .context = &context,
      .cancelled = [](void*) { return 0; },
      .progress = [](void* context, int stage, int64_t step,
                     int64_t steps) { (*static_cast<Report*>(context))(stage, step, steps); },
      .latents = [](void*, int64_t, int64_t, const float*, const int64_t*) {},
      .frames = [](void*, int64_t, int64_t, int64_t, int64_t, const uint8_t*) {},
      .warning = [](void*, const char*) {}};
  torchreel_error error{};
  check_ok(core.pipeline_generate(pipeline, &request, &listener, &error), error);
}

torchreel_pipeline_options options_of(const Files& files, const char* dtype, const char* offload) {
  torchreel_pipeline_options options{};
  options.text_encoder = files.network(0);
  options.unet = files.network(1);
  options.vae = files.network(2);
  options.device = "cpu";
  options.dtype = dtype;
  options.offload = offload;
  options.scaling_factor = 0.18215;
  options.latent_channels = 4;
  options.max_header = 1 << 20;
  options.cancelled = [](void*) { return 0; };
  return options;
}

// With 'model' a network lies on the device from the end of the one before it to its own, and no third.
void test_ahead(const torchreel_core& core, const Files& files) {
  const torchreel_pipeline_options options = options_of(files, "bfloat16", "model");
  torchreel_pipeline* pipeline = nullptr;
  torchreel_error error{};
  check_ok(core.pipeline_open(&options, &pipeline, &error), error);
  torchreel_memory memory{};
  auto placed = [&] {
    check_ok(core.pipeline_memory(pipeline, &memory, &error), error);
    return std::string(memory.text_encoder.placed ? "t" : "") + (memory.unet.placed ? "u" : "") +
           (memory.vae.placed ? "v" : "");
  };
  auto seen = [&](const uint8_t* video) {
    std::string all;
    run(core, pipeline, video, [&](int stage, int64_t step, int64_t) {
      all += "edv"[stage] + std::to_string(step) + placed() + " ";
    });
    check(placed().empty(), "at rest nothing is placed");
    check(memory.text_encoder.copied + memory.unet.copied + memory.vae.copied == 0, "nor copied");
    return all;
  };
  std::string text = seen(nullptr);
  check(text == "e0 e1u d0u d1u d2uv v0v v1v v2v ",
        "each network is placed while the one before it ends: " + text);
  std::vector<uint8_t> video(2 * 64 * 64 * 3, 90);
  std::string changed = seen(video.data());
  check(changed == "e0 e1v e2v e3v d0u d1u d2uv v0v v1v v2v ", "and so with a video: " + changed);
  core.pipeline_close(pipeline);
}

// The same tokens are encoded once, until an adapter changes.
void test_encodings(const Files& files) {
  torchreel::Pipeline pipeline(options_of(files, "float32", "none"));
  std::vector<int32_t> tokens(2 * 77, 1);
  auto encode = [&](int64_t prompts, int64_t clip_skip) {
    return pipeline.encode(prompts, {tokens.data(), 77 * 2 / prompts, clip_skip, nullptr, 0});
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
  test_ahead(*torchreel_core_table(), files);
  c10::InferenceMode inference;
  test_encodings(files);
  return 0;
}
