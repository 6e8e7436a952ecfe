#include "operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace torchreel {
namespace {

// Known to libtorch as soon as this library is loaded, and for as long as the process lives: graphs may
// outlive all else.
torch::Library* register_operators() {
  if (c10::Dispatcher::singleton().findSchema({"torchreel::group_norm", ""}))
    return nullptr;  // by another core
  auto* library = new torch::Library(torch::Library::FRAGMENT, "torchreel", std::nullopt, __FILE__, __LINE__);
  library->def(
      "group_norm(Tensor x, int groups, Tensor weight, Tensor bias, float eps, bool silu) -> Tensor");
  library->def("attention(Tensor queries, Tensor keys, Tensor values) -> Tensor");
  library->def("convolve_3x3(Tensor x, Tensor weight, Tensor bias) -> Tensor");
  library->def(
      "upsample_and_convolve(Tensor x, Tensor weight, Tensor bias, int height, int width) -> Tensor");
  library->def("convolve_frames(Tensor x, Tensor weight, Tensor bias) -> Tensor");
  library->impl("group_norm", c10::DispatchKey::CPU, group_norm);
  library->impl("attention", c10::DispatchKey::CPU, attention);
  library->impl("convolve_3x3", c10::DispatchKey::CPU, convolve_3x3);
  library->impl("upsample_and_convolve", c10::DispatchKey::CPU, upsample_and_convolve);
  library->impl("convolve_frames", c10::DispatchKey::CPU, convolve_frames);
  return library;
}

// Kept, though nobody reads it, so that LeakSanitizer finds the library.
[[gnu::used]] torch::Library* const registered = register_operators();

}  // namespace

}  // namespace torchreel
