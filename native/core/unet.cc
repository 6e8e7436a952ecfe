#include "unet.h"

namespace torchreel {

c10::IValue UNet::prepare(const at::Tensor& text) {
  Network::Share share = network_.place(0);
  return network_.call("prepare", {text});
}

at::Tensor UNet::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                         const FreeU& freeu) {
  c10::List<at::Tensor> state({time, x});
  c10::IValue factors;
  if (freeu) factors = c10::List<double>({(*freeu)[0], (*freeu)[1], (*freeu)[2], (*freeu)[3]});

  Network::Share share = network_.place(1);
  for (size_t stage = 1; stage < network_.stages(); ++stage) {
    network_.call("run_stage", {static_cast<int64_t>(stage), state, context, factors});
    Network::Share next = stage + 1 < network_.stages() ? network_.place(stage + 1) : nullptr;
    share = std::move(next);
  }
  return state.get(0);
}

}  // namespace torchreel
