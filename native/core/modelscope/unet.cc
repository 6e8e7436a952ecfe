#include "modelscope/unet.h"

#include <numeric>
#include <vector>

#include "process/error.h"

namespace torchreel {

c10::IValue UNet::prepare(const at::Tensor& text) {
  Network::Share share = network_.place(0);
  return network_.call("prepare", {text});
}

at::Tensor UNet::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                         const FreeU& freeu, FeatureCache* cache, bool reuse) {
  if (compiled_) {
    if (freeu || cache) throw invalid_argument("a compiled denoiser takes neither freeU nor featureCache");
    at::Tensor output = compiled_->forward(x, time, context);
    network_.check_files();
    return output;
  }
  c10::List<at::Tensor> state({time, x});
  c10::IValue factors;
  if (freeu) factors = c10::List<double>({(*freeu)[0], (*freeu)[1], (*freeu)[2], (*freeu)[3]});

  // conv_in, the first down block, the last up block and conv_out; else all but `prepare`
  size_t last = network_.stages() - 1, last_up = last - 1;
  std::vector<size_t> stages{1, 2, last_up, last};
  if (!reuse) {
    stages.resize(last);
    std::iota(stages.begin(), stages.end(), 1);
  }

  if (cache && !reuse) *cache = {};
  Network::Share share = network_.place(stages.front());
  for (size_t index = 0; index < stages.size(); ++index) {
    size_t stage = stages[index];
    if (stage == last_up && reuse) {
      state.resize(cache->depth - 1);  // without the skips that the blocks between would have taken
      state.push_back(cache->feature);
    } else if (stage == last_up && cache) {
      *cache = {.feature = state.get(state.size() - 1), .depth = state.size()};
    }
    network_.call("run_stage", {static_cast<int64_t>(stage), state, context, factors});
    Network::Share next = index + 1 < stages.size() ? network_.place(stages[index + 1]) : nullptr;
    share = std::move(next);
  }
  return state.get(0);
}

}  // namespace torchreel
