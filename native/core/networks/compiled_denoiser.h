// The UNet's step as AOTInductor compiled it (models/compile_denoiser.py): machine code for one shape,
// without weights.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "torchreel_core.h"

namespace torchreel {

class Network;

class CompiledDenoiser {
 public:
  // Loads the library, which is a program. It is a file for no longer than that takes. Throws
  // ERR_MODEL_CORRUPT if it cannot be loaded, ERR_OUTPUT_WRITE if there is no place for the file.
  CompiledDenoiser(const torchreel_compiled_denoiser& compiled, at::Device device);

  // From now on computes with the network's weights as they lie now; all stages must be placed, and stay so
  // until `release` or the next `take`. One that throws leaves none.
  void take(const Network& network);
  void release() { weights_.clear(); }

  // As UNet::forward. Throws ERR_INVALID_ARGUMENT for another shape than it was compiled for, ERR_INTERNAL
  // without weights and for whatever fails in it, refused memory included.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context);

 private:
  std::vector<int64_t> shape_;  // of x
  int64_t texts_, tokens_;      // G, L
  at::Device device_;
  // By the library's names. It holds their addresses, and no share of them.
  std::unordered_map<std::string, at::Tensor> weights_;
  std::unique_ptr<torch::inductor::AOTIModelContainerRunner> runner_;
};

}  // namespace torchreel
