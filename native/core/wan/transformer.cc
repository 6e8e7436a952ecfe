#include "wan/transformer.h"

#include "process/error.h"

namespace torchreel::wan {

c10::IValue Transformer::prepare(const Texts& texts) {
  WeightHold hold = network_.place(0);
  return network_.call("prepare", {texts.embeddings, c10::List<int64_t>(texts.lengths), texts.positions});
}

at::Tensor Transformer::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                                const StepOptions& options) {
  if (options.freeu || options.cache)
    throw invalid_argument("a transformer has neither freeU nor featureCache: it has no skips");
  c10::List<at::Tensor> state({time, x});
  WeightHold hold = network_.place(1);  // stage 0 is `prepare`
  for (size_t stage = 1; stage < network_.stages(); ++stage) {
    network_.call("run_stage", {static_cast<int64_t>(stage), state, context});
    WeightHold next = stage + 1 < network_.stages() ? network_.place(stage + 1) : nullptr;
    hold = std::move(next);
  }
  return state.get(0);
}

}  // namespace torchreel::wan
