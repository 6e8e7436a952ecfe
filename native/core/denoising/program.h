// Denoising programs: schedulers compile their solvers to these. lib/schedulers/program.ts defines the
// instructions and their encoding. The core runs programs and knows no scheduler.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace torchreel {

class Program {
 public:
  // Decodes and checks: known instructions, registers in range and written before they are read, finite
  // numbers. Throws ERR_INVALID_ARGUMENT.
  explicit Program(std::span<const double> code);

  int64_t calls() const { return calls_; }
  bool draws_noise() const;

  struct Hooks {
    // The guided network output for `input`, both (B, C, F, h, w) float32. `call` counts from 0.
    std::function<at::Tensor(const at::Tensor& input, double timestep, int64_t call)> network;
    std::function<at::Tensor()> noise;
    // The sample as it stands after call number `call` and its updates. Optional.
    std::function<void(const at::Tensor& sample, int64_t call)> after_call;
  };

  // Runs from `sample` (B, C, F, h, w) float32 to the denoised sample of the same shape.
  at::Tensor run(at::Tensor sample, const Hooks& hooks) const;

 private:
  enum class Operation { call, combine, noise, clamp, threshold };

  struct Instruction {
    Operation operation;
    size_t target;                                 // the register written; a call writes the output register
    double first = 0, second = 0;                  // timestep and scale; limit; ratio and maximum
    std::vector<std::pair<size_t, double>> terms;  // register, coefficient
  };

  std::vector<Instruction> instructions_;
  size_t registers_ = 2;
  int64_t calls_ = 0;
};

}  // namespace torchreel
