// The operators against the same in double precision, and against themselves on another number of threads.
#include "operators.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>

#include <cmath>

#include "check.h"

namespace {

double largest_difference(const at::Tensor& one, const at::Tensor& other) {
  return (one.to(at::kDouble) - other).abs().max().item<double>();
}

void test_group_norm(at::IntArrayRef shape, int64_t groups, double mean, bool silu) {
  int64_t channels = shape.back();
  at::Tensor x = at::randn(shape) + mean, weight = at::randn({channels}), bias = at::randn({channels});
  at::Tensor planes = x.to(at::kDouble).reshape({shape[0], -1, channels}).transpose(1, 2);
  at::Tensor expected =
      at::group_norm(planes, groups, weight.to(at::kDouble), bias.to(at::kDouble), 1e-5).transpose(1, 2);
  if (silu) expected = at::silu(expected);
  at::Tensor y = torchreel::group_norm(x, groups, weight, bias, 1e-5, silu);
  std::string name = "group norm of " + c10::str(shape) + " around " + std::to_string(mean);
  check(y.sizes() == shape, name + " keeps the shape");
  // x has 24 bits: around a mean, that much less of it is left.
  check(largest_difference(y, expected.reshape(shape)) < 2e-6 * (10 + std::abs(mean)), name);
  at::set_num_threads(1);
  check(torchreel::group_norm(x, groups, weight, bias, 1e-5, silu).equal(y), name + " on one thread");
  at::set_num_threads(2);
}

void test_short_attention(int64_t items, int64_t heads, int64_t tokens, int64_t sources, int64_t width) {
  auto split = [&](int64_t length) { return at::randn({items, length, heads, width}).transpose(1, 2); };
  at::Tensor queries = split(tokens) * 3, keys = split(sources), values = split(sources);
  at::Tensor scores = at::matmul(queries.to(at::kDouble), keys.to(at::kDouble).transpose(2, 3));
  at::Tensor weights = at::softmax(scores / std::sqrt(static_cast<double>(width)), 3);
  at::Tensor expected = at::matmul(weights, values.to(at::kDouble)).transpose(1, 2);
  at::Tensor y = torchreel::short_attention(queries, keys, values);
  std::string name = "attention of " + c10::str(at::IntArrayRef({items, heads, tokens, sources, width}));
  check(y.is_contiguous() && y.sizes() == expected.sizes(), name + " has a shape of its own");
  check(largest_difference(y, expected) < 2e-5, name);
  at::set_num_threads(1);
  check(torchreel::short_attention(queries, keys, values).equal(y), name + " on one thread");
  at::set_num_threads(2);
}

}  // namespace

int main() {
  at::set_num_threads(2);
  for (bool silu : {false, true}) {
    for (double mean : {0.0, -3.0, 1000.0}) {
      test_group_norm({1, 4096, 64}, 32, mean, silu);
      test_group_norm({3, 5, 7, 40}, 8, mean, silu);
      test_group_norm({2, 1, 20}, 4, mean, silu);
      test_group_norm({5, 2500, 320}, 32, mean, silu);
      test_group_norm({2, 33, 7}, 1, mean, silu);
    }
  }
  for (int64_t width : {1, 4, 16, 20, 64, 160}) {
    for (int64_t sources : {1, 4, 16, 17, 32}) {
      test_short_attention(1, 1, 1, sources, width);
      test_short_attention(65, 3, sources, sources, width);
      test_short_attention(9, 2, 11, sources, width);
    }
  }
  at::Tensor one = at::randn({1, 1, 2, 4});
  bool refused = false;
  try {
    torchreel::short_attention(one, one, at::randn({1, 1, 3, 4}));
  } catch (const c10::Error&) {
    refused = true;
  }
  check(refused, "values that do not fit the keys");
  return 0;
}
