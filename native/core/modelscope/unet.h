// ModelScope's UNet. It runs stage by stage, so that a device need not hold all of its weights at once.
#pragma once

#include "networks/denoiser.h"
#include "networks/network.h"

namespace torchreel::modelscope {

class UNet : public Denoiser {
 public:
  explicit UNet(Network& network) : network_(network) {}

  WeightHold hold_weights() override { return network_.place(); }
  c10::IValue prepare(const at::Tensor& text) override;
  // Places the weights of each stage, and those of the next while the device computes it. Where they are held
  // already, that copies nothing.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                     const StepOptions& options) override;

 private:
  Network& network_;
};

}  // namespace torchreel::modelscope
