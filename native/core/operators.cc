#include "operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace torchreel {

void register_operators() {
  // Another core in this process has the same ones. Never destroyed: graphs may outlive everything of ours.
  static const bool registered = [] {
    if (c10::Dispatcher::singleton().findSchema({"torchreel::group_norm", ""})) return true;
    auto* library =
        new torch::Library(torch::Library::FRAGMENT, "torchreel", std::nullopt, __FILE__, __LINE__);
    library->def(
        "group_norm(Tensor x, int groups, Tensor weight, Tensor bias, float eps, bool silu) -> Tensor");
    library->def("short_attention(Tensor queries, Tensor keys, Tensor values) -> Tensor");
    library->impl("group_norm", c10::DispatchKey::CPU, group_norm);
    library->impl("short_attention", c10::DispatchKey::CPU, short_attention);
    return true;
  }();
  (void)registered;
}

}  // namespace torchreel
