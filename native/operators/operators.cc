#include "operators.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace torchreel {
namespace {

// Registers the operators when this library is loaded, until the process ends: graphs may outlive everything
// else. An operator that another core has registered stays.
torch::Library* register_operators() {
  auto* library = new torch::Library(torch::Library::FRAGMENT, "torchreel", std::nullopt, __FILE__, __LINE__);
  auto add = [&](const std::string& name, const std::string& schema, auto* function) {
    if (c10::Dispatcher::singleton().findSchema({"torchreel::" + name, ""})) return;
    library->def((name + schema).c_str());
    library->impl(name.c_str(), c10::DispatchKey::CPU, function);
  };
  add("group_norm", "(Tensor x, int groups, Tensor weight, Tensor bias, float eps, bool silu) -> Tensor",
      group_norm);
  add("attention", "(Tensor queries, Tensor keys, Tensor values) -> Tensor", attention);
  add("convolve_3x3", "(Tensor x, Tensor weight, Tensor bias) -> Tensor", convolve_3x3);
  add("upsample_and_convolve", "(Tensor x, Tensor weight, Tensor bias, int height, int width) -> Tensor",
      upsample_and_convolve);
  add("convolve_frames", "(Tensor x, Tensor weight, Tensor bias) -> Tensor", convolve_frames);
  add("add_convolve_frames", "(Tensor(a!) sum, Tensor x, Tensor weight, Tensor bias) -> ()",
      add_convolve_frames);
  add("layer_norm", "(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor", layer_norm);
  add("rms_norm", "(Tensor x, Tensor weight, float eps) -> Tensor", rms_norm);
  add("linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor", linear);
  add("add_linear", "(Tensor(a!) sum, Tensor x, Tensor weight, Tensor? bias) -> ()", add_linear);
  add("linear_gelu_tanh", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor", linear_gelu_tanh);
  add("gated_linear", "(Tensor x, Tensor weight, Tensor bias) -> Tensor", gated_linear);
  return library;
}

// Never read: it lets LeakSanitizer find the library.
[[gnu::used]] torch::Library* const registered = register_operators();

// Our operators are faster than NNPACK, and where a processor cannot run NNPACK, libtorch prints a warning
// for each convolution that would use it.
[[gnu::used]] const bool without_nnpack = (at::globalContext().setUserEnabledNNPACK(false), true);

}  // namespace

}  // namespace torchreel
