// Wan's networks give the reference's numbers, with the weights of the small checkpoint.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "check.h"
#include "files/safetensors.h"
#include "networks/network.h"
#include "wan/causal_vae.h"
#include "wan/transformer.h"
#include "wan/umt5.h"
#include "wan/weight_names.h"

using torchreel::Network;
using torchreel::SafetensorsFile;

namespace {

struct Fixture {
  std::string folder;

  at::Tensor read(const std::string& file, const std::string& name) const {
    return mapped_tensor(SafetensorsFile::open(folder + "/wan/" + file + ".safetensors"), name);
  }

  // With the parameters in float32 that the graph's manifest lists.
  std::unique_ptr<Network> network(const std::string& component, const std::string& weights,
                                   at::ScalarType dtype = at::kFloat) const {
    std::string graph = folder + "/../../models/graphs/wan-tiny/" + component + ".pt";
    std::string file = folder + "/wan/checkpoint/" + component + "/" + weights + ".safetensors";
    const char* files[] = {file.c_str()};
    std::vector<const char*> float32;
    auto opened = SafetensorsFile::open(file);
    for (const auto& [name, entry] : opened->entries()) {
      for (const char* part : {"time_embedder", "scale_shift_table", "norm2"}) {
        if (component == "transformer" && name.find(part) != std::string::npos)
          float32.push_back(name.c_str());
      }
    }
    return std::make_unique<Network>(
        torchreel_network_files{component.c_str(), graph.c_str(), files, 1, float32.data(), float32.size()},
        at::Device(at::kCPU), dtype, torchreel::NetworkOptions{.names = torchreel::wan::weight_names});
  }
};

void check_close(const at::Tensor& actual, const at::Tensor& wanted, double most, const std::string& what) {
  check(actual.sizes() == wanted.sizes(), what + " has the wanted shape");
  double error =
      ((actual.to(at::kFloat) - wanted.to(at::kFloat)).norm() / wanted.to(at::kFloat).norm()).item<double>();
  check(error < most, what + " is " + std::to_string(error) + " off");
}

at::Tensor transform(Network& network, const at::Tensor& x, torchreel::Texts texts, double timestep) {
  torchreel::wan::Transformer transformer(network);
  texts.embeddings = texts.embeddings.to(network.dtype());
  at::Tensor time = at::scalar_tensor(timestep, at::kFloat);
  return transformer.forward(x.to(network.dtype()), time, transformer.prepare(texts), {});
}

void test_transformer(const Fixture& fixture) {
  auto network = fixture.network("transformer", "diffusion_pytorch_model");
  check_close(transform(*network, fixture.read("expected", "unit.x"),
                        {fixture.read("expected", "unit.text"), {9, 3}, 512}, 700),
              fixture.read("expected", "unit.transformer"), 1e-4, "the transformer");

  // A prompt without padding and one of a single token.
  at::Tensor rows = fixture.read("more", "full.text");
  at::Tensor text = at::zeros({2, 512, rows.size(1)});
  text[0].copy_(rows.narrow(0, 0, 512));
  text[1].narrow(0, 0, 1).copy_(rows.narrow(0, 512, 1));
  at::Tensor x = fixture.read("more", "full.x");
  torchreel::Texts texts{text, {512, 1}, 512};
  check_close(transform(*network, x, texts, 251), fixture.read("more", "full.transformer"), 1e-4,
              "the transformer with a full prompt");
  auto half = fixture.network("transformer", "diffusion_pytorch_model", at::kBFloat16);
  check_close(transform(*half, x, texts, 251), fixture.read("more", "full.transformer_bfloat16"), 1e-2,
              "the transformer in bfloat16");
  check(half->memory().copied == 0, "without a hold nothing stays copied");

  torchreel::wan::Transformer transformer(*network);
  c10::IValue context = transformer.prepare(texts);
  torchreel::FeatureCache cache{.interval = 2};
  at::Tensor time = at::scalar_tensor(1.0, at::kFloat);
  check_throws("ERR_INVALID_ARGUMENT", "freeU", [&] {
    transformer.forward(x, time, context, {.freeu = {{1, 1, 1, 1}}});
  });
  check_throws("ERR_INVALID_ARGUMENT", "featureCache",
               [&] { transformer.forward(x, time, context, {.cache = &cache}); });
}

// All frames of latents (1, C, f, h, w) as (1, 3, F, H, W), clamped as the reference's.
at::Tensor decode(torchreel::Autoencoder& vae, const at::Tensor& z, const torchreel::Tiling& tiling) {
  torchreel_listener listener{};
  listener.cancelled = [](void*) { return 0; };
  std::vector<at::Tensor> frames;
  int64_t next = 0;
  vae.decode(z, tiling, listener, [&](int64_t first, const at::Tensor& images) {
    check(first == next, "frames come in order");
    next += images.size(0);
    frames.push_back(images);
  });
  check(next == vae.count_frames(z.size(2)), "all frames come");
  return at::cat(frames).transpose(0, 1).unsqueeze(0).clamp(-1, 1);
}

void test_vae(const Fixture& fixture) {
  auto network = fixture.network("vae", "diffusion_pytorch_model");
  torchreel::wan::CausalVae vae(*network, {std::vector<double>(16, 1), std::vector<double>(16, 0)});
  check_close(decode(vae, fixture.read("expected", "unit.z"), {}), fixture.read("expected", "unit.decoded"),
              1e-4, "the decoded video");
  at::Tensor wanted = fixture.read("more", "long.decoded");
  at::Tensor last = decode(vae, fixture.read("more", "long.z"), {}).slice(2, -wanted.size(2));
  check_close(last, wanted, 1e-4, "the end of a longer video");
  check_close(decode(vae, fixture.read("more", "tiles.z"), {.size = 4, .overlap = 1}),
              fixture.read("more", "tiles.decoded"), 1e-4, "a video in tiles");
}

// The text encoder needs a layer at a time, and gives the same whatever else is embedded with a prompt.
void test_text_encoder(const Fixture& fixture) {
  auto network = fixture.network("text_encoder", "model", at::kDouble);
  torchreel::wan::UMT5 encoder(*network);
  check(encoder.hold_weights() == nullptr, "no weights are held between calls");
  at::Tensor ids = at::full({2, 512}, 0, at::kLong);
  ids.narrow(1, 0, 4).fill_(7);
  std::vector<torchreel::Texts> texts = encoder.encode({{ids, {4, 2}, 0}, {ids, {1, 1}, 0}}, [] {});
  check(texts[0].embeddings.size(1) == 4 && texts[1].embeddings.size(1) == 1, "only real rows are there");
  check(texts[0].positions == 512, "of 512 positions");
  check(texts[0].embeddings[1].narrow(0, 2, 2).eq(0).all().item<bool>(), "padding is zeros");
  int64_t largest = 0;
  for (size_t stage = 1; stage < network->stages(); ++stage) {
    auto hold = network->place(stage);
    largest = std::max(largest, network->memory().copied);
  }
  check(network->memory().peak_copied == largest, "one layer is copied at a time, and never the table");
  check_throws("ABORTED", "stop", [&] {
    encoder.encode({{ids, {4, 2}, 0}}, [] { throw torchreel::Error("ABORTED", "stop"); });
  });
}

}  // namespace

int main(int, char** arguments) {
  c10::InferenceMode inference;
  Fixture fixture{arguments[1]};
  test_transformer(fixture);
  test_vae(fixture);
  test_text_encoder(fixture);
  return 0;
}
