// Graphs with a checkpoint's weights give the reference's numbers: text encoder, UNet and VAE of the small
// checkpoint.
#include "networks/network.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/InferenceMode.h>

#include <numeric>

#include "check.h"
#include "files/safetensors.h"
#include "modelscope/unet.h"
#include "modelscope/weight_names.h"

using torchreel::mapped_tensor;
using torchreel::Network;
using torchreel::SafetensorsFile;

namespace {

struct Fixture {
  std::string folder;
  std::shared_ptr<const SafetensorsFile> expected =
      SafetensorsFile::open(folder + "/tiny/expected.safetensors");

  at::Tensor operator[](const std::string& name) const { return mapped_tensor(expected, name); }

  Network network(const std::string& component, const std::string& weights,
                  at::ScalarType dtype = at::kFloat) const {
    std::string graph = folder + "/../../models/graphs/tiny/" + component + ".pt";
    std::string file = folder + "/tiny/checkpoint/" + component + "/" + weights + ".safetensors";
    const char* files[] = {file.c_str()};
    return {{component.c_str(), graph.c_str(), files, 1},
            at::kCPU,
            dtype,
            {.names = torchreel::modelscope::weight_names}};
  }
};

void check_close(const at::Tensor& actual, const at::Tensor& wanted, const std::string& what) {
  check(actual.sizes() == wanted.sizes(), what + " has the wanted shape");
  double error = ((actual - wanted).norm() / wanted.norm()).item<double>();
  check(error < 1e-4, what + " is " + std::to_string(error) + " off");
}

void test_text_encoder(const Fixture& fixture) {
  Network network = fixture.network("text_encoder", "model");
  auto hold = network.place();
  at::Tensor ids = fixture["tokens.input_ids"];
  check_close(network.call("forward", {ids, 0}).toTensor(), fixture["text.last_hidden_state"], "the text");
  check_close(network.call("forward", {ids, 1}).toTensor(), fixture["text.clip_skip_1"],
              "the text one layer early");
}

void test_unet(const Fixture& fixture) {
  Network network = fixture.network("unet", "diffusion_pytorch_model");
  auto hold = network.place();
  const double timesteps[] = {999, 500, 1, 37};  // unet.N.timestep in expected.json
  for (int n = 0; n < 4; ++n) {
    std::string name = "unet." + std::to_string(n);
    at::Tensor sample = fixture[name + ".sample"], text = fixture[name + ".context"];
    at::Tensor wanted = fixture[name + ".output"];
    auto forward = [&](const at::Tensor& x, const at::Tensor& embeddings) {
      c10::IValue context = network.call("prepare", {embeddings});
      return network.call("forward", {x, at::scalar_tensor(timesteps[n], at::kFloat), context}).toTensor();
    };
    check_close(forward(sample, text), wanted, name);

    // Guidance: the sample given once, with twice the texts, equals the pair computed apart.
    at::Tensor other = text.flip(1);
    at::Tensor pair = forward(sample, at::cat({other, text}));
    check_close(pair.chunk(2)[1], wanted, name + " as the second half of a guidance pair");
    check_close(pair.chunk(2)[0], forward(sample, other), name + " as the first half");
  }
}

void test_vae(const Fixture& fixture) {
  Network network = fixture.network("vae", "diffusion_pytorch_model");
  auto hold = network.place();
  at::Tensor latents = fixture["vae.latent"] / 0.18215;
  check_close(network.call("decode", {latents}).toTensor(), fixture["vae.decoded"], "the decoded image");
  auto moments = network.call("encode", {fixture["vae.image"]}).toTuple();
  check_close(moments->elements()[0].toTensor(), fixture["vae.encoded_mean"], "the encoded mean");
  check_close(moments->elements()[1].toTensor(), fixture["vae.encoded_logvar"], "the encoded log variance");
}

// The unet run stage by stage gives what its forward gives, with no more than two stages' copies at a time.
void test_stages(const Fixture& fixture) {
  at::Tensor sample = fixture["unet.0.sample"], text = fixture["unet.0.context"];
  at::Tensor time = at::scalar_tensor(999, at::kFloat);
  Network network = fixture.network("unet", "diffusion_pytorch_model", at::kDouble);
  check(network.stages() > 3, "the unet has stages");
  std::vector<int64_t> bytes;
  for (size_t stage = 0; stage < network.stages(); ++stage) {
    auto hold = network.place(stage);
    bytes.push_back(network.memory().copied);
    check(bytes.back() > 0, "each stage has weights");
  }
  check(network.memory().copied == 0, "without a hold nothing stays copied");
  check(std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) == 2 * network.memory().mapped,
        "each weight belongs to one stage, and float64 takes twice the file's bytes");
  int64_t two = 0;
  for (size_t stage = 1; stage < network.stages(); ++stage)
    two = std::max(two, bytes[stage - 1] + bytes[stage]);

  torchreel::modelscope::UNet unet(network);
  at::Tensor by_stages = unet.forward(sample.to(at::kDouble), time, unet.prepare(text.to(at::kDouble)), {});
  check(network.memory().peak_copied <= two, "at most two stages are copied at a time");
  check(network.memory().copied == 0, "nothing stays copied");
  check_close(by_stages, fixture["unet.0.output"], "the unet by stages");

  auto hold = network.place();
  check(network.memory().placed, "all stages are placed");
  c10::IValue context = network.call("prepare", {text.to(at::kDouble)});
  at::Tensor at_once = network.call("forward", {sample.to(at::kDouble), time, context}).toTensor();
  check(at_once.equal(by_stages), "the unet by stages equals the unet at once");
}

// On the CPU in the file's own dtype the weights are the file's pages. Another dtype is a copy, which is
// freed with its last hold.
void test_placement(const Fixture& fixture) {
  Network mapped = fixture.network("vae", "diffusion_pytorch_model");
  auto hold = mapped.place();
  check(mapped.stages() == 1 && mapped.memory().placed, "the vae is one stage");
  check(mapped.memory().copied == 0, "the file's own dtype is not copied");
  at::Tensor latents = fixture["vae.latent"] / 0.18215;
  at::Tensor before = mapped.call("decode", {latents}).toTensor();
  hold.reset();
  hold = mapped.place();
  check(mapped.call("decode", {latents}).toTensor().equal(before),
        "a network placed again computes as before");

  Network copied = fixture.network("vae", "diffusion_pytorch_model", at::kBFloat16);
  hold = copied.place();
  auto more = copied.place();
  check(copied.memory().copied == copied.memory().mapped / 2, "bfloat16 is copied once, at half the bytes");
  hold.reset();
  check(copied.memory().placed, "a hold keeps the copies");
  more.reset();
  check(!copied.memory().placed && copied.memory().copied == 0, "the last hold frees the copies");
}

// Adapters change what the network computes; without them it computes as before, to the bit, from the same
// pages.
void test_adaptation(const Fixture& fixture) {
  Network network = fixture.network("unet", "diffusion_pytorch_model");
  auto forward = [&] {
    auto hold = network.place();
    c10::IValue context = network.call("prepare", {fixture["unet.0.context"]});
    return network.call("forward", {fixture["unet.0.sample"], at::scalar_tensor(999, at::kFloat), context})
        .toTensor();
  };
  at::Tensor before = forward();
  auto updated = [&](const std::string& weight, int64_t out, int64_t in) {
    at::Tensor up = at::full({out, 2}, 0.1), down = at::full({2, in}, 0.1);
    return torchreel::Adaptation{{weight, {{{up, down, 1.0}}, {}, {}}}};
  };
  torchreel::Adaptation adaptation = updated("conv_in.weight", 32, 36);
  network.check(adaptation);
  network.swap_adaptation(adaptation);
  check(adaptation.empty(), "nothing was adapted before");
  at::Tensor changed = forward();
  check(!changed.equal(before), "an update changes what the network computes");
  check(forward().equal(changed), "what was adapted stays so when the network is placed again");

  check_throws("ERR_MODEL_INCOMPATIBLE", "1 unknown: nowhere.weight",
               [&] { network.check(updated("nowhere.weight", 32, 36)); });
  check_throws("ERR_MODEL_INCOMPATIBLE", "1 of another shape: conv_in.weight [32, 4, 3, 3]",
               [&] { network.check(updated("conv_in.weight", 32, 4)); });

  network.swap_adaptation(adaptation);
  check(adaptation.contains("conv_in.weight"), "what was adapted is given back");
  check(forward().equal(before), "without adapters the network computes as before");
}

}  // namespace

int main(int, char** arguments) {
  c10::InferenceMode inference;
  Fixture fixture{arguments[1]};
  test_text_encoder(fixture);
  test_unet(fixture);
  test_vae(fixture);
  test_placement(fixture);
  test_stages(fixture);
  test_adaptation(fixture);
  return 0;
}
