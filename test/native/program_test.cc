// Denoising programs: what each instruction does, and which programs are refused.
#include "denoising/program.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include <cmath>

#include "check.h"

using torchreel::Program;

namespace {

constexpr double call = 0, combine = 1, noise = 2, clamp = 3, threshold = 4;

Program::Hooks constant_network(double value) {
  return {.network = [=](const at::Tensor& x, double, int64_t) { return at::full(x.sizes(), value); },
          .noise =
              [] {
                return at::ones({1, 2, 3, 1, 1});
              },
          .after_call = {}};
}

at::Tensor run(const std::vector<double>& code, const at::Tensor& sample, double output = 0) {
  return Program(code).run(sample, constant_network(output));
}

void test_instructions() {
  at::Tensor x = at::full({1, 2, 3, 1, 1}, 2.0);
  auto equals = [&](const at::Tensor& tensor, double value) {
    return at::allclose(tensor, at::full(x.sizes(), value));
  };

  check(equals(run({call, 9, 1, combine, 0, 2, 0, 3.0, 1, 0.5}, x, 4), 8), "x ← 3x + 0.5·output");
  check(equals(run({call, 9, 1, combine, 0, 0}, x), 0), "an empty sum is zero");
  check(equals(run({call, 9, 1, noise, 2, combine, 0, 2, 0, 1, 2, 5}, x), 7), "x ← x + 5·noise");
  check(equals(run({call, 9, 1, combine, 0, 1, 0, -3, clamp, 0, 1.5}, x), -1.5), "clamp");
  check(equals(run({combine, 2, 1, 0, 1, call, 9, 1, combine, 0, 1, 0, 10, combine, 0, 1, 2, 1}, x), 2),
        "a register keeps its value while the sample changes");

  double seen_time = 0, seen_scale = 0;
  Program::Hooks hooks = constant_network(0);
  hooks.network = [&](const at::Tensor& input, double timestep, int64_t) {
    seen_time = timestep;
    seen_scale = input.mean().item<double>() / 2;
    return input;
  };
  Program(std::vector<double>{call, 957.375, 0.25}).run(x, hooks);
  check(seen_time == 957.375 && std::abs(seen_scale - 0.25) < 1e-7,
        "a call scales its input and gives the timestep");
  check(equals(x, 2), "and leaves the sample alone");
}

void test_threshold() {
  at::Tensor x = at::randn({2, 4, 3, 5, 6}) * 4;
  at::Tensor y = run({call, 9, 1, threshold, 0, 0.9, 100}, x);
  check(y.abs().max().item<double>() <= 1, "thresholded frames lie in [-1, 1]");
  at::Tensor frame = x.select(0, 1).select(1, 2), got = y.select(0, 1).select(1, 2);
  double s = frame.abs().flatten().quantile(0.9).item<double>();
  check(at::allclose(got, frame.clamp(-s, s) / s, 1e-5, 1e-6), "each frame by its own quantile");
  at::Tensor small = at::full({1, 4, 2, 2, 2}, 0.5);
  check(at::allclose(run({call, 9, 1, threshold, 0, 0.9, 100}, small), small), "small values are left alone");
}

void test_refusals() {
  const std::pair<const char*, std::vector<double>> cases[] = {
      {"never calls", {}},
      {"never calls", {combine, 0, 1, 0, 1}},
      {"index below 5", {5}},
      {"index below 5", {-1}},
      {"index below 5", {0.5}},
      {"ends inside", {call, 1}},
      {"ends inside", {call, 1, 1, combine, 0}},
      {"index below", {call, 1, 1, combine, 0, 2, 0, 1}},
      {"index below", {call, 1, 1, combine, 0, 1e300}},
      {"index below 64", {call, 1, 1, combine, 64, 1, 0, 1}},
      {"before it is written", {call, 1, 1, combine, 0, 1, 7, 1}},
      {"before it is written", {combine, 0, 1, 1, 1, call, 1, 1}},
      {"before it is written", {call, 1, 1, clamp, 3, 1}},
      {"not finite", {call, NAN, 1}},
      {"not finite", {call, 1, INFINITY}},
      {"negative limit", {call, 1, 1, clamp, 0, -1}},
      {"ratio", {call, 1, 1, threshold, 0, 1.5, 2}},
      {"maximum", {call, 1, 1, threshold, 0, 0.5, 0.5}},
  };
  for (const auto& [words, code] : cases) check_throws("ERR_INVALID_ARGUMENT", words, [&] { Program{code}; });
}

}  // namespace

int main() {
  test_instructions();
  test_threshold();
  test_refusals();
  return 0;
}
