#include "modelscope/unet.h"

#include <numeric>
#include <vector>

namespace torchreel::modelscope {

c10::IValue UNet::prepare(const at::Tensor& text) {
  WeightHold hold = network_.place(0);
  return network_.call("prepare", {text});
}

at::Tensor UNet::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                         const StepOptions& options) {
  c10::List<at::Tensor> state({time, x});
  c10::IValue freeu;
  if (const FreeU& factors = options.freeu)
    freeu = c10::List<double>({(*factors)[0], (*factors)[1], (*factors)[2], (*factors)[3]});

  FeatureCache* cache = options.cache;
  bool reuse = cache && cache->feature.defined() && cache->feature.size(0) == count_texts(context, x) &&
               cache->uses + 1 < cache->interval;
  if (reuse) ++cache->uses;
  if (cache && !reuse)
    *cache = {.interval = cache->interval};  // frees the old feature before the new one is made

  // Stage 0 is `prepare`. The outermost stages are conv_in, the first down block, the last up block and
  // conv_out.
  size_t last = network_.stages() - 1, last_up = last - 1;
  std::vector<size_t> stages{1, 2, last_up, last};
  if (!reuse) {
    stages.resize(last);
    std::iota(stages.begin(), stages.end(), 1);
  }

  WeightHold hold = network_.place(stages.front());
  for (size_t index = 0; index < stages.size(); ++index) {
    size_t stage = stages[index];
    if (stage == last_up && reuse) {
      state.resize(cache->depth - 1);  // drops the skips that the inner blocks would have taken
      state.push_back(cache->feature);
    } else if (stage == last_up && cache) {
      cache->feature = state.get(state.size() - 1);
      cache->depth = state.size();
    }
    network_.call("run_stage", {static_cast<int64_t>(stage), state, context, freeu});
    WeightHold next = index + 1 < stages.size() ? network_.place(stages[index + 1]) : nullptr;
    hold = std::move(next);
  }
  return state.get(0);
}

}  // namespace torchreel::modelscope
