// Graphs with a checkpoint's weights give the reference's numbers: text encoder, UNet and VAE of the small
// checkpoint.
#include "network.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/InferenceMode.h>

#include "check.h"
#include "safetensors.h"

using torchreel::mapped_tensor;
using torchreel::Network;
using torchreel::SafetensorsFile;

namespace {

struct Fixture {
  std::string folder;
  std::shared_ptr<const SafetensorsFile> expected =
      SafetensorsFile::open(folder + "/tiny/expected.safetensors");

  at::Tensor operator[](const std::string& name) const { return mapped_tensor(expected, name); }

  Network network(const std::string& component, const std::string& weights) const {
    std::string graph = folder + "/../../models/graphs/tiny/" + component + ".pt";
    std::string file = folder + "/tiny/checkpoint/" + component + "/" + weights + ".safetensors";
    const char* files[] = {file.c_str()};
    return {component, {graph.c_str(), files, 1}, at::kCPU, at::kFloat};
  }
};

void check_close(const at::Tensor& actual, const at::Tensor& wanted, const std::string& what) {
  check(actual.sizes() == wanted.sizes(), what + " has the wanted shape");
  double error = ((actual - wanted).norm() / wanted.norm()).item<double>();
  check(error < 1e-4, what + " is " + std::to_string(error) + " off");
}

void test_text_encoder(const Fixture& fixture) {
  Network network = fixture.network("text_encoder", "model");
  network.load();
  at::Tensor ids = fixture["tokens.input_ids"];
  check_close(network.call("forward", {ids, 0}).toTensor(), fixture["text.last_hidden_state"], "the text");
  check_close(network.call("forward", {ids, 1}).toTensor(), fixture["text.clip_skip_1"],
              "the text one layer early");
}

void test_unet(const Fixture& fixture) {
  Network network = fixture.network("unet", "diffusion_pytorch_model");
  network.load();
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
  network.load();
  at::Tensor latents = fixture["vae.latent"] / 0.18215;
  check_close(network.call("decode", {latents}).toTensor(), fixture["vae.decoded"], "the decoded image");
  auto moments = network.call("encode", {fixture["vae.image"]}).toTuple();
  check_close(moments->elements()[0].toTensor(), fixture["vae.encoded_mean"], "the encoded mean");
  check_close(moments->elements()[1].toTensor(), fixture["vae.encoded_logvar"], "the encoded log variance");
}

// On the CPU in the file's own dtype the weights are the file's pages; another dtype is a copy that unload
// gives back.
void test_residency(const Fixture& fixture) {
  Network network = fixture.network("vae", "diffusion_pytorch_model");
  network.load();
  at::Tensor latents = fixture["vae.latent"] / 0.18215;
  at::Tensor before = network.call("decode", {latents}).toTensor();
  network.unload();
  network.load();
  check(network.call("decode", {latents}).toTensor().equal(before),
        "a network that was unloaded computes as before");
}

// Adapters change what the network computes; without them it computes as before, to the bit, from the same
// pages.
void test_adaptation(const Fixture& fixture) {
  Network network = fixture.network("unet", "diffusion_pytorch_model");
  network.load();
  auto forward = [&] {
    c10::IValue context = network.call("prepare", {fixture["unet.0.context"]});
    return network.call("forward", {fixture["unet.0.sample"], at::scalar_tensor(999, at::kFloat), context})
        .toTensor();
  };
  at::Tensor before = forward();
  auto updated = [&](const std::string& weight, int64_t out, int64_t in) {
    at::Tensor up = at::full({out, 2}, 0.1), down = at::full({2, in}, 0.1);
    return torchreel::Adaptation{{weight, {{{up, down, 1.0}}, {}}}};
  };
  check(network.adapt(updated("conv_in.weight", 32, 36)).empty(), "nothing was adapted before");
  at::Tensor changed = forward();
  check(!changed.equal(before), "an update changes what the network computes");

  check_throws("ERR_MODEL_INCOMPATIBLE", "1 unknown: nowhere.weight",
               [&] { network.adapt(updated("nowhere.weight", 32, 36)); });
  check_throws("ERR_MODEL_INCOMPATIBLE", "1 of another shape: conv_in.weight [32, 4, 3, 3]",
               [&] { network.adapt(updated("conv_in.weight", 32, 4)); });
  check(forward().equal(changed), "an update that does not fit changes nothing");

  network.unload();
  network.load();
  check(forward().equal(changed), "what was adapted stays so when the network is loaded again");
  check(network.adapt({}).contains("conv_in.weight"), "what was adapted is given back");
  check(forward().equal(before), "without adapters the network computes as before");
}

}  // namespace

int main(int, char** arguments) {
  c10::InferenceMode inference;
  Fixture fixture{arguments[1]};
  test_text_encoder(fixture);
  test_unet(fixture);
  test_vae(fixture);
  test_residency(fixture);
  test_adaptation(fixture);
  return 0;
}
