// A denoiser's step as AOTInductor compiled it (models/compile_denoiser.py): machine code for one shape,
// without weights.
#pragma once

#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "networks/denoiser.h"
#include "networks/network.h"
#include "torchreel_core.h"

namespace torchreel {

class CompiledDenoiser : public Denoiser {
 public:
  // Loads the library, which is a program; it is written to a file only for that time. `eager` prepares the
  // texts; `network` has the weights. Throws ERR_MODEL_CORRUPT if the library cannot be loaded,
  // ERR_OUTPUT_WRITE if it cannot be written.
  CompiledDenoiser(const torchreel_compiled_denoiser& compiled, std::unique_ptr<Denoiser> eager,
                   const Network& network);

  // Also binds the compiled step to the weights as they lie now. If that throws, it is bound to none.
  WeightHold hold_weights() override;
  c10::IValue prepare(const at::Tensor& text) override { return eager_->prepare(text); }
  // While the weights are held. Throws ERR_INVALID_ARGUMENT for another shape than it was compiled for and
  // for any option, ERR_INTERNAL for everything that fails in the compiled code, refused memory included.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                     const StepOptions& options) override;

 private:
  class Binding;
  void bind_weights();

  std::unique_ptr<Denoiser> eager_;
  const Network& network_;
  std::vector<int64_t> shape_;  // of x
  int64_t texts_, tokens_;      // G, L
  // By the library's names. The library has their addresses, but does not own them.
  std::unordered_map<std::string, at::Tensor> weights_;
  std::unique_ptr<torch::inductor::AOTIModelContainerRunner> runner_;
};

}  // namespace torchreel
