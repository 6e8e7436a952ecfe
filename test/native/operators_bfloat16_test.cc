// The operators in bfloat16 against the same in double precision, on the same rounded numbers, and against
// themselves on another number of threads. A result that is rounded once is about 0.0017 off, in L2, and a
// few numbers may be 2⁻⁸ off; what is beyond that comes from inside.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "attended.h"
#include "check.h"
#include "operators.h"
#include "packed_weight.h"
#include "parallel.h"

namespace {

using Operation = std::function<at::Tensor()>;

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape).to(at::kBFloat16); }

at::Tensor random_weight(at::IntArrayRef shape) {
  at::Tensor weight = at::randn(shape);
  return (weight / std::sqrt(static_cast<double>(weight[0].numel()))).to(at::kBFloat16);
}

at::Tensor wide(const at::Tensor& x) { return x.to(at::kDouble); }

void check_close(const std::string& name, const at::Tensor& expected, const Operation& operation,
                 double bound = 0.0023, bool ours = true) {
  at::Tensor y = operation();
  check(y.is_contiguous() && y.sizes() == expected.sizes() && y.scalar_type() == at::kBFloat16,
        name + " has the shape and type");
  double error = ((wide(y) - expected).norm() / expected.norm()).item<double>();
  constexpr int64_t few = 1000;
  if (expected.numel() < few) bound = std::max(bound, 1.0 / 256);
  check(error < bound, name + " is " + std::to_string(error) + " off");
  if (!ours) return;
  for (int threads : {1, 3, 40}) {
    at::set_num_threads(threads);
    check(operation().equal(y), name + " on " + std::to_string(threads) + " threads");
  }
  at::set_num_threads(2);
  for (int threads : {2, 5}) {
    torchreel::work_in_pieces(threads, /*apart=*/false);
    check(operation().equal(y), name + " by a team of " + std::to_string(threads));
  }
  torchreel::work_in_pieces(0, false);
}

void test_linear(at::IntArrayRef shape, int64_t outputs, bool fits = true) {
  at::Tensor x = random(shape), weight = random_weight({outputs, shape.back()}), bias = random({outputs});
  std::string name = "linear layer of " + c10::str(shape) + " to " + std::to_string(outputs);
  at::Tensor packed = torchreel::pack(weight), expected = at::linear(wide(x), wide(weight), wide(bias));
  check(torchreel::is_packed(packed) == fits, name + ": what fits is packed");
  for (const at::Tensor& each : {weight, packed}) {
    bool ours = torchreel::is_packed(each);
    check_close(
        name, expected, [&] { return torchreel::linear(x, each, bias); }, 0.0023, ours);
    check_close(
        name + " without a bias", at::linear(wide(x), wide(weight)),
        [&] { return torchreel::linear(x, each, std::nullopt); }, 0.0023, ours);
    check_close(
        "with gelu, " + name, at::gelu(expected, "tanh"),
        [&] { return torchreel::linear_gelu_tanh(x, each, bias); }, ours ? 0.0025 : 0.004, ours);
    at::Tensor summand = random(expected.sizes());
    check_close(
        "added " + name, expected + wide(summand),
        [&] {
          at::Tensor sum = summand.clone();
          torchreel::add_linear(sum, x, each, bias);
          return sum;
        },
        ours ? 0.0023 : 0.004, ours);
    if (outputs % 2 != 0) continue;
    bool fused = ours && outputs / 2 % each.size(2) == 0;  // else the halves are rounded, too
    auto halves = expected.chunk(2, -1);
    check_close(
        "gated " + name, halves[0] * at::gelu(halves[1]),
        [&] { return torchreel::gated_linear(x, each, bias); }, fused ? 0.0025 : 0.006, fused);
  }
}

// Positions (P, F, C) in the memory of frames (F, P, C), of which not all positions are taken.
void test_linear_of_transposed(int64_t frames, int64_t positions, int64_t channels, int64_t outputs) {
  auto view = [&](const at::Tensor& video) { return video.narrow(1, 2, positions).transpose(0, 1); };
  at::Tensor x = view(random({frames, positions + 3, channels})), bias = random({outputs});
  at::Tensor summand = random({frames, positions + 3, outputs}), weight = random_weight({outputs, channels});
  at::Tensor expected = at::linear(wide(x), wide(weight), wide(bias));
  std::string name = "linear layer of transposed " + c10::str(x.sizes()) + " to " + std::to_string(outputs);
  for (const at::Tensor& each : {weight, torchreel::pack(weight)}) {
    bool ours = torchreel::is_packed(each);
    check_close(
        name, expected, [&] { return torchreel::linear(x, each, bias); }, 0.0023, ours);
    for (const at::Tensor& given : {x, x.contiguous()}) {
      check_close(
          "added " + name, expected + wide(view(summand)),
          [&] {
            at::Tensor sum = summand.clone();
            torchreel::add_linear(view(sum), given, each, bias);
            check(sum.narrow(1, 0, 2).equal(summand.narrow(1, 0, 2)), name + " keeps what is beside it");
            return view(sum).contiguous();
          },
          ours ? 0.0023 : 0.004, ours);
    }
  }
}

// Views with gaps that are not transposed: a slice of each item, and one item that is seen several times.
void test_linear_of_slices() {
  at::Tensor weight = random_weight({64, 32}), packed = torchreel::pack(weight), bias = random({64});
  for (const at::Tensor& x : {random({2, 9, 32}).narrow(1, 3, 5), random({1, 5, 32}).expand({3, 5, 32})}) {
    check_close("linear layer of a slice " + c10::str(x.sizes()),
                at::linear(wide(x), wide(weight), wide(bias)),
                [&] { return torchreel::linear(x, packed, bias); });
  }
}

void test_convolutions(int64_t images, int64_t height, int64_t width, int64_t channels, int64_t outputs) {
  at::Tensor x = random({images, height, width, channels}), bias = random({outputs});
  at::Tensor weight = random_weight({outputs, channels, 3, 3}), packed = torchreel::pack(weight);
  auto convolved = [&](const at::Tensor& image) {
    at::Tensor y = at::conv2d(wide(image).permute({0, 3, 1, 2}), wide(weight), wide(bias), {1, 1}, {1, 1});
    return y.permute({0, 2, 3, 1});
  };
  std::string name = "convolution of " + c10::str(x.sizes()) + " to " + std::to_string(outputs);
  constexpr double winograd = 0.004;  // its factors are rounded, too
  for (const at::Tensor& each : {weight, packed}) {
    bool ours = torchreel::is_packed(each);
    check_close(
        name, convolved(x), [&] { return torchreel::convolve_3x3(x, each, bias); }, ours ? winograd : 0.0023,
        ours);
    for (int64_t cut : {0, 1}) {
      at::Tensor doubled = x.repeat_interleave(2, 1).repeat_interleave(2, 2);
      doubled = doubled.narrow(1, 0, 2 * height - cut).narrow(2, 0, 2 * width - cut);
      check_close(
          "upsampling before the " + name, convolved(doubled),
          [&] { return torchreel::upsample_and_convolve(x, each, bias, 2 * height - cut, 2 * width - cut); },
          ours ? winograd : 0.0023, ours);
    }
  }
}

void test_convolution_of_frames(int64_t videos, int64_t frames, int64_t pixels, int64_t channels) {
  at::Tensor x = random({videos, frames, pixels, channels}), bias = random({channels});
  at::Tensor weight = random_weight({channels, channels, 3, 1, 1}), packed = torchreel::pack(weight);
  at::Tensor expected =
      at::conv2d(wide(x).permute({0, 3, 1, 2}), wide(weight).squeeze(4), wide(bias), {1, 1}, {1, 0})
          .permute({0, 2, 3, 1});
  for (const at::Tensor& each : {weight, packed}) {
    check_close(
        "convolution over the frames of " + c10::str(x.sizes()), expected,
        [&] { return torchreel::convolve_frames(x, each, bias); }, 0.0023, torchreel::is_packed(each));
    at::Tensor summand = random({videos, frames, pixels, channels});
    check_close(
        "added convolution over the frames of " + c10::str(x.sizes()), expected + wide(summand),
        [&] {
          at::Tensor sum = summand.clone();
          torchreel::add_convolve_frames(sum, x, each, bias);
          return sum;
        },
        torchreel::is_packed(each) ? 0.0023 : 0.004, torchreel::is_packed(each));
  }
}

// Long attention rounds its weights to bfloat16. With AMX, more than 16 keys are long.
void test_attention(int64_t items, int64_t heads, int64_t tokens, int64_t sources, int64_t width) {
  auto split = [&](int64_t length) { return random({items, length, heads, width}).transpose(1, 2); };
  at::Tensor queries = split(tokens) * 3, keys = split(sources);
  at::Tensor values = random({items, heads, sources, width + 8}).narrow(3, 3, width);  // strides of their own
  std::string name = "attention of " + c10::str(at::IntArrayRef({items, heads, tokens, sources, width}));
  bool ours = sources <= 32 || width % 32 == 0;
  bool rounded = sources > 32 || (sources > 16 && width % 32 == 0);
  check_close(
      name, attended(queries, keys, values), [&] { return torchreel::attention(queries, keys, values); },
      rounded ? 0.005 : 0.0023, ours);
}

// Short items that follow each other in memory are attended together, and do not change each other.
void test_attention_of_frames(int64_t items, int64_t heads, int64_t frames, int64_t width) {
  auto split = [&] { return random({items, frames, heads, width}).transpose(1, 2); };
  at::Tensor queries = split() * 3, keys = split(), values = split();
  std::string name = "attention of frames " + c10::str(queries.sizes());
  check_close(
      name, attended(queries, keys, values), [&] { return torchreel::attention(queries, keys, values); },
      frames > 16 ? 0.005 : 0.0023);
  at::Tensor together = torchreel::attention(queries, keys, values);
  for (int64_t item = 0; item < items; ++item) {
    auto one = [&](const at::Tensor& x) { return x.narrow(0, item, 1); };
    check(torchreel::attention(one(queries), one(keys), one(values)).equal(one(together)),
          name + ": item " + std::to_string(item) + " alone");
  }
}

void test_norms(at::IntArrayRef shape, int64_t groups, double mean) {
  int64_t channels = shape.back();
  at::Tensor x = (random(shape) + mean).to(at::kBFloat16), weight = random({channels}),
             bias = random({channels});
  std::string name = "norm of " + c10::str(shape) + " around " + std::to_string(mean);
  at::Tensor planes = wide(x).reshape({shape[0], -1, channels}).transpose(1, 2);
  at::Tensor expected = at::group_norm(planes, groups, wide(weight), wide(bias), 1e-5).transpose(1, 2);
  expected = expected.reshape(shape);
  check_close("group " + name, expected,
              [&] { return torchreel::group_norm(x, groups, weight, bias, 1e-5, false); });
  check_close("group " + name + " with SiLU", at::silu(expected),
              [&] { return torchreel::group_norm(x, groups, weight, bias, 1e-5, true); });
  check_close("layer " + name, at::layer_norm(wide(x), {channels}, wide(weight), wide(bias), 1e-5),
              [&] { return torchreel::layer_norm(x, weight, bias, 1e-5); });
  if (mean == 0) {
    check_close("RMS " + name, at::rms_norm(wide(x), {channels}, wide(weight), 1e-5),
                [&] { return torchreel::rms_norm(x, weight, 1e-5); });
  }
}

}  // namespace

int main() {
  at::manual_seed(0);
  at::set_num_threads(2);
  if (!torchreel::multiplies_bfloat16()) {
    test_attention(3, 2, 65, 16, 64);
    test_norms({3, 5, 7, 40}, 8, -3.0);
    std::puts("only attention and norms: this processor has neither AVX512-BF16 nor AMX");
    return 77;
  }
  test_linear({1, 64}, 64);
  at::Tensor packed = torchreel::pack(random_weight({128, 64}));
  check(torchreel::gated_linear(random({0, 64}), packed, random({128})).sizes() == at::IntArrayRef({0, 64}),
        "a packed linear layer of no rows");
  at::Tensor nothing = torchreel::convolve_frames(
      random({1, 2, 0, 48}), torchreel::pack(random_weight({48, 48, 3, 1, 1})), random({48}));
  check(nothing.sizes() == at::IntArrayRef({1, 2, 0, 48}), "a packed convolution over frames of no pixels");
  test_linear_of_slices();
  test_linear({3, 77, 100}, 320);
  test_linear({1000, 2600}, 96);  // inputs in parts, of the last one fewer
  test_linear({2, 200, 320}, 1280);
  test_linear({129, 30}, 80);
  for (int64_t positions : {1, 16, 300}) test_linear_of_transposed(8, positions, 64, 96);
  test_linear_of_transposed(1, 5, 32, 64);
  test_linear({65, 33}, 64, false);  // an odd number of inputs
  test_linear({65, 32}, 20, false);
  test_convolutions(2, 9, 16, 32, 64);
  test_convolutions(1, 17, 5, 4, 96);
  test_convolutions(1, 3, 4, 640, 32);
  test_convolutions(1, 31, 33, 64, 160);    // by Winograd's filtering, with half tiles
  test_convolutions(1, 16, 16, 1280, 320);  // more kernels than are transformed at a time
  test_convolutions(1, 8, 8, 32, 4);        // not packed
  for (int64_t frames : {1, 2, 16}) test_convolution_of_frames(2, frames, 65, 48);
  for (int64_t width : {4, 20, 64}) {
    for (int64_t sources : {1, 8, 16, 32, 33, 77, 600}) {
      test_attention(1, 1, 1, sources, width);
      test_attention(3, 2, 65, sources, width);
      test_attention(20, 3, sources, sources, width);
    }
  }
  test_attention(1, 2, 100, 1100, 160);
  for (int64_t frames : {1, 2, 3, 5, 8, 9, 16, 24, 32}) {
    for (int64_t width : {20, 64}) test_attention_of_frames(37, 3, frames, width);
  }
  for (double mean : {0.0, -3.0}) {
    test_norms({1, 4096, 64}, 32, mean);
    test_norms({3, 5, 7, 40}, 8, mean);
    test_norms({2, 500, 320}, 32, mean);
    test_norms({2, 33, 16}, 1, mean);
  }
  return 0;
}
