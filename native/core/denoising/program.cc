#include "denoising/program.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "process/error.h"

namespace torchreel {
namespace {

constexpr size_t sample_register = 0, output_register = 1;
constexpr size_t max_registers = 64;

// Reads the flat code number by number.
class Reader {
 public:
  explicit Reader(std::span<const double> code) : code_(code) {}

  bool done() const { return at_ == code_.size(); }

  double number() {
    if (done()) fail("it ends inside an instruction");
    double value = code_[at_++];
    if (!std::isfinite(value)) fail("it holds a number that is not finite");
    return value;
  }

  size_t index(size_t limit) {
    double value = number();
    if (value < 0 || value >= static_cast<double>(limit) || value != std::floor(value)) {
      fail("expected an index below " + std::to_string(limit) + ", got " + std::to_string(value));
    }
    return static_cast<size_t>(value);
  }

  size_t left() const { return code_.size() - at_; }

  [[noreturn]] void fail(const std::string& reason) const {
    throw invalid_argument("the denoising program is broken at " + std::to_string(at_) + ": " + reason);
  }

 private:
  std::span<const double> code_;
  size_t at_ = 0;
};

// Σ coefficient · register, in float32.
at::Tensor combination(const std::vector<std::pair<size_t, double>>& terms,
                       const std::vector<at::Tensor>& registers) {
  if (terms.empty()) return at::zeros_like(registers[sample_register]);
  at::Tensor sum = registers[terms[0].first] * terms[0].second;
  for (size_t i = 1; i < terms.size(); ++i) sum.add_(registers[terms[i].first], terms[i].second);
  return sum;
}

// Dynamic thresholding of each frame of x (B, C, F, h, w): s = the ratio quantile of |x|, within [1,
// maximum].
at::Tensor thresholded(const at::Tensor& x, double ratio, double maximum) {
  at::Tensor frames = x.transpose(1, 2);  // (B, F, C, h, w)
  at::Tensor s = at::quantile(frames.flatten(2).abs(), ratio, -1).clamp(1.0, maximum);
  s = s.view({x.size(0), 1, x.size(2), 1, 1});
  return x.clamp(-s, s) / s;
}

}  // namespace

Program::Program(std::span<const double> code) {
  Reader reader(code);
  std::vector<bool> written(max_registers, false);
  written[sample_register] = true;
  auto read_register = [&] {
    size_t index = reader.index(max_registers);
    if (!written[index]) reader.fail("register " + std::to_string(index) + " is read before it is written");
    return index;
  };

  while (!reader.done()) {
    Instruction instruction{};
    instruction.operation = static_cast<Operation>(reader.index(5));
    switch (instruction.operation) {
      case Operation::call:
        instruction.target = output_register;
        instruction.first = reader.number();
        instruction.second = reader.number();
        ++calls_;
        break;
      case Operation::combine: {
        instruction.target = reader.index(max_registers);
        size_t terms = reader.index(reader.left() / 2 + 1);
        for (size_t i = 0; i < terms; ++i) {
          size_t source = read_register();
          instruction.terms.emplace_back(source, reader.number());
        }
        break;
      }
      case Operation::noise:
        instruction.target = reader.index(max_registers);
        break;
      case Operation::clamp:
        instruction.target = read_register();
        instruction.first = reader.number();
        if (instruction.first < 0) reader.fail("a clamp has a negative limit");
        break;
      case Operation::threshold:
        instruction.target = read_register();
        instruction.first = reader.number();
        instruction.second = reader.number();
        if (instruction.first < 0 || instruction.first > 1)
          reader.fail("a threshold's ratio is not in [0, 1]");
        if (instruction.second < 1) reader.fail("a threshold's maximum is below 1");
        break;
    }
    written[instruction.target] = true;
    registers_ = std::max(registers_, instruction.target + 1);
    instructions_.push_back(std::move(instruction));
  }
  if (calls_ == 0) throw invalid_argument("the denoising program never calls the network");
}

bool Program::draws_noise() const {
  return std::ranges::any_of(instructions_, [](const auto& i) { return i.operation == Operation::noise; });
}

at::Tensor Program::run(at::Tensor sample, const Hooks& hooks) const {
  // Registers hold values: no instruction writes into a tensor that another register may share.
  std::vector<at::Tensor> registers(registers_);
  registers[sample_register] = std::move(sample);
  int64_t calls = 0;
  auto call_done = [&] {
    if (calls > 0 && hooks.after_call) hooks.after_call(registers[sample_register], calls - 1);
  };

  for (const Instruction& instruction : instructions_) {
    at::Tensor& target = registers[instruction.target];
    switch (instruction.operation) {
      case Operation::call: {
        call_done();
        const at::Tensor& x = registers[sample_register];
        double scale = instruction.second;
        target = hooks.network(scale == 1.0 ? x : x * scale, instruction.first, calls++);
        break;
      }
      case Operation::combine:
        target = combination(instruction.terms, registers);
        break;
      case Operation::noise:
        target = hooks.noise();
        break;
      case Operation::clamp:
        target = target.clamp(-instruction.first, instruction.first);
        break;
      case Operation::threshold:
        target = thresholded(target, instruction.first, instruction.second);
        break;
    }
  }
  call_done();
  return registers[sample_register];
}

}  // namespace torchreel
