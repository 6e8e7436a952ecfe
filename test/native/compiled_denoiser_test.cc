// What a compiled step gets and what it leaves behind, with a runner instead of libtorch's that adds up its
// inputs and one of the weights. test/checkpoint/compiled_denoiser.test.ts runs compiled code itself.
#include "networks/compiled_denoiser.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "check.h"
#include "modelscope/unet.h"
#include "networks/network.h"
#include "one_weight_runner.h"
#include "pipeline.h"

namespace {

namespace fs = std::filesystem;
using torch::inductor::AOTIModelContainerRunner;

using one_weight::fails;  // here also when the library is loaded or run
using one_weight::weight;

std::string library, operators;  // the files that the runner was made from
fs::path folder;                 // where they were

std::string content(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

class Adding : public one_weight::Runner {
  std::vector<at::Tensor> compute(const std::vector<at::Tensor>& inputs) override {
    if (fails) throw std::runtime_error("API call failed");
    check(inputs[0].is_contiguous(), "the sample is dense, as the code takes it to be");
    at::Tensor sum = one_weight::bound->sum().to(at::kFloat);
    for (size_t i = 1; i < inputs.size(); ++i) sum = sum + inputs[i].sum();
    return {inputs[0] + sum};
  }
};

std::unique_ptr<AOTIModelContainerRunner> make(const std::string& file, size_t, const std::string& device,
                                               const std::string&, const bool) {
  folder = fs::path(file).parent_path();
  library = content(file);
  operators = content(folder / "denoiser.json");
  check(device == "cpu", device);
  if (fails) throw std::runtime_error("it is no library");
  return std::make_unique<Adding>();
}

torchreel_compiled_denoiser compiled() {
  static const std::string code = "code";
  return {reinterpret_cast<const uint8_t*>(code.data()), code.size(), "{}", {1, 4, 2, 8, 8}, 2, 5};
}

torchreel::CompiledDenoiser make_denoiser(torchreel::Network& network) {
  return {compiled(), std::make_unique<torchreel::modelscope::UNet>(network), network};
}

void test_files(torchreel::Network& network) {
  auto denoiser = make_denoiser(network);
  check(library == "code" && operators == "{}", "the runner is made of the files");
  check(!folder.empty() && !fs::exists(folder), "which are gone when it is made");
  fails = true;
  check_throws("ERR_MODEL_CORRUPT", "it is no library", [&] { make_denoiser(network); });
  check(!fs::exists(folder), "and when it is not made");
  fails = false;
}

void test_weights(torchreel::Network& network, at::ScalarType dtype) {
  auto denoiser = make_denoiser(network);
  torchreel::WeightHold placement = network.place(), hold = denoiser.hold_weights();
  at::Tensor placed = network.placed().at(weight);
  check(one_weight::bound->data_ptr() == placed.data_ptr() && one_weight::bound->scalar_type() == dtype,
        "it is bound to the weights where they are");
  float bias = placed.sum().to(at::kFloat).item<float>();
  placed.reset();

  at::Tensor longer = at::zeros({1, 4, 6, 8, 8});
  c10::List<at::Tensor> texts({at::ones({2, 1, 5, 1}), at::ones({2, 1, 5, 1})});
  at::Tensor window = longer.narrow(2, 1, 2), time = at::ones({}) * 7;
  auto forward = [&](const at::Tensor& x, const c10::IValue& context) {
    return denoiser.forward(x, time, context, {});
  };
  float sum = forward(window, texts).flatten()[0].item<float>();
  check(sum == bias + 7 + 10 + 10, "it computes with the sample, the time, the texts and the weight");
  check_throws("ERR_INVALID_ARGUMENT", "another size", [&] { forward(longer, texts); });
  c10::List<at::Tensor> alone({at::ones({1, 1, 5, 1})});
  check_throws("ERR_INVALID_ARGUMENT", "other texts", [&] { forward(window, alone); });
  torchreel::FeatureCache cache;
  check_throws("ERR_INVALID_ARGUMENT", "featureCache",
               [&] { denoiser.forward(window, time, texts, {.cache = &cache}); });
  check_throws("ERR_INVALID_ARGUMENT", "freeU", [&] {
    denoiser.forward(window, time, texts, {.freeu = {{1, 1, 1, 1}}});
  });

  fails = true;
  check_throws("ERR_INTERNAL", "API call failed", [&] { forward(window, texts); });
  fails = false;

  at::Tensor held = *one_weight::bound;
  size_t uses = held.use_count();
  hold.reset();
  check(held.use_count() == uses - 1, "without a hold it is bound to no weights");
  auto refused = [&] { check_throws("ERR_INTERNAL", "has no weights", [&] { forward(window, texts); }); };
  refused();

  hold = denoiser.hold_weights();
  check(forward(window, texts).flatten()[0].item<float>() == sum, "it can be bound again");
  hold.reset();
  fails = true;
  bool thrown = false;
  try {
    hold = denoiser.hold_weights();
  } catch (const std::exception&) {
    thrown = true;
  }
  check(thrown, "the library refuses weights");
  fails = false;
  check(held.use_count() == uses - 1, "what the library refuses is not bound");
  refused();
}

// A job binds the weights again after neither a change of the adapters nor its undoing could bind them.
void test_adapt(const std::string& fixtures) {
  std::string names[] = {"text_encoder", "unet", "vae"}, graphs[3], weights[3];
  const char* roles[] = {"text_encoder", "denoiser", "vae"};
  const char* files[3];
  torchreel_network_files networks[3];
  for (int i = 0; i < 3; ++i) {
    graphs[i] = fixtures + "/../../models/graphs/tiny/" + names[i] + ".pt";
    weights[i] = fixtures + "/tiny/checkpoint/" + names[i] + "/" +
                 (i == 0 ? "model" : "diffusion_pytorch_model") + ".safetensors";
    files[i] = weights[i].c_str();
    networks[i] = {roles[i], graphs[i].c_str(), &files[i], 1, nullptr, 0};
  }
  torchreel_pipeline_options options{};
  const double scale[] = {1, 1, 1, 1}, mean[] = {0, 0, 0, 0};
  options.family = "modelscope";
  options.networks = networks;
  options.network_count = 3;
  options.compiled_denoiser = compiled();
  options.compiled_denoiser.texts = 1;  // without guidance
  options.device = "cpu";
  options.dtype = "bfloat16";  // copied from the files, and freed
  options.offload = "none";
  options.latent_channels = 4;
  options.latent_scale = scale;
  options.latent_mean = mean;
  options.max_header = 1 << 20;
  options.cancelled = [](void*) { return 0; };
  torchreel::Pipeline pipeline(options);

  fails = true;
  bool thrown = false;
  try {
    pipeline.adapt({}, {});
  } catch (const std::exception&) {
    thrown = true;
  }
  check(thrown && pipeline.memory().denoiser.copied == 0, "weights that cannot be computed with are freed");
  fails = false;

  const std::vector<float> embeddings(5 * 32, 1);
  const std::vector<double> program{0, 500, 1, 1, 0, 2, 0, 1, 1, -0.1};
  const uint64_t seed = 1;
  torchreel_request request{};
  request.videos = 1;
  request.prompts = {nullptr, 5, nullptr, 0, embeddings.data(), 32};
  request.frames = request.latent_frames = 2;
  request.latent_height = request.latent_width = 8;
  request.program = program.data();
  request.program_length = program.size();
  request.seeds = &seed;
  request.seed_count = 1;
  request.allow_non_finite = 1;
  pipeline.generate(request, {.context = nullptr,
                              .cancelled = [](void*) { return 0; },
                              .progress = [](void*, int, int64_t, int64_t) {},
                              .latents = [](void*, int64_t, int64_t, const float*, const int64_t*) {},
                              .frames = [](void*, int64_t, int64_t, int64_t, int64_t, const uint8_t*) {},
                              .warning = [](void*, const char*) {},
                              .threads = nullptr});
  check(pipeline.memory().denoiser.copied > 0, "and there again for the next job");
}

void test_other_network(torchreel::Network& network) {
  weight = "of.another";
  auto denoiser = make_denoiser(network);
  check_throws("ERR_MODEL_INCOMPATIBLE", "of.another", [&] { denoiser.hold_weights(); });
}

}  // namespace

int main(int, char** arguments) {
  c10::InferenceMode inference;
  torch::inductor::getAOTIModelRunnerRegistry()["cpu"] = make;
  std::string fixtures = arguments[1];
  std::string graph = fixtures + "/../../models/graphs/tiny/unet.pt";
  std::string weights = fixtures + "/tiny/checkpoint/unet/diffusion_pytorch_model.safetensors";
  const char* file = weights.c_str();
  const torchreel_network_files files{"denoiser", graph.c_str(), &file, 1, nullptr, 0};
  torchreel::Network whole(files, at::kCPU, at::kFloat);
  test_files(whole);
  test_weights(whole, at::kFloat);
  torchreel::Network half(files, at::kCPU, at::kBFloat16);
  test_weights(half, at::kBFloat16);
  test_adapt(fixtures);
  test_other_network(whole);
  return 0;
}
