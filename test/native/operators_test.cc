// The operators against the same in double precision, and against themselves on another number of threads.
#include "operators.h"

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

#include <cmath>
#include <functional>

#include "attended.h"
#include "check.h"
#include "parallel.h"

namespace {

double largest_difference(const at::Tensor& one, const at::Tensor& other) {
  return (one.to(at::kDouble) - other).abs().max().item<double>();
}

// Whether an operator of ours gives the same numbers, to the bit, however many threads share the work.
void check_threads(const at::Tensor& y, const std::function<at::Tensor()>& operation,
                   const std::string& name) {
  for (int threads : {1, 3, 40}) {
    at::set_num_threads(threads);
    check(operation().equal(y), name + " on " + std::to_string(threads) + " threads");
  }
  at::set_num_threads(2);
  for (int threads : {2, 5, 40}) {
    torchreel::work_in_pieces(threads, /*apart=*/threads < 40);
    check(operation().equal(y), name + " by a team of " + std::to_string(threads));
  }
  torchreel::work_in_pieces(0, false);
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
  check_threads(
      y, [&] { return torchreel::group_norm(x, groups, weight, bias, 1e-5, silu); }, name);
}

void test_attention(int64_t items, int64_t heads, int64_t tokens, int64_t sources, int64_t width,
                    double spread = 3) {
  auto split = [&](int64_t length) { return at::randn({items, length, heads, width}).transpose(1, 2); };
  at::Tensor queries = split(tokens) * spread, keys = split(sources);
  at::Tensor values =
      at::randn({items, heads, sources, width + 8}).narrow(3, 3, width);  // strides of their own
  at::Tensor expected = attended(queries, keys, values);
  at::Tensor y = torchreel::attention(queries, keys, values);
  std::string name = "attention of " + c10::str(at::IntArrayRef({items, heads, tokens, sources, width}));
  check(y.is_contiguous() && y.sizes() == expected.sizes(), name + " has a shape of its own");
  check(largest_difference(y, expected) < 2e-5, name);
  bool ours = sources <= 32 || (width % 16 == 0 && sources * width <= 1 << 19);  // else it is libtorch's
  if (ours) {
    check_threads(
        y, [&] { return torchreel::attention(queries, keys, values); }, name);
  }
}

// Short items that follow each other in memory are attended together, and do not change each other.
void test_attention_of_frames(int64_t items, int64_t heads, int64_t frames, int64_t width) {
  auto split = [&] { return at::randn({items, frames, heads, width}).transpose(1, 2); };
  at::Tensor queries = split() * 3, keys = split(), values = split();
  at::Tensor expected = attended(queries, keys, values);
  at::Tensor y = torchreel::attention(queries, keys, values);
  std::string name = "attention of frames " + c10::str(queries.sizes());
  check(largest_difference(y, expected) < 2e-5, name);
  check_threads(
      y, [&] { return torchreel::attention(queries, keys, values); }, name);
  for (int64_t item = 0; item < items; ++item) {
    auto one = [&](const at::Tensor& x) { return x.narrow(0, item, 1); };
    check(torchreel::attention(one(queries), one(keys), one(values)).equal(one(y)),
          name + ": item " + std::to_string(item) + " alone");
  }
}

void test_convolution(int64_t images, int64_t height, int64_t width, int64_t channels, int64_t outputs,
                      bool channels_last, bool ours = true) {
  at::Tensor x = at::randn({images, height, width, channels}), bias = at::randn({outputs});
  at::Tensor weight = at::randn({outputs, channels, 3, 3}) / std::sqrt(9.0 * static_cast<double>(channels));
  if (channels_last) weight = weight.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor expected = at::conv2d(x.to(at::kDouble).permute({0, 3, 1, 2}), weight.to(at::kDouble),
                                   bias.to(at::kDouble), {1, 1}, {1, 1});
  at::Tensor y = torchreel::convolve_3x3(x, weight, bias);
  std::string name = "convolution of " + c10::str(x.sizes()) + " with " + c10::str(weight.sizes());
  check(y.is_contiguous(), name + " is contiguous");
  check(largest_difference(y, expected.permute({0, 2, 3, 1})) < 3e-5, name);
  if (ours)
    check_threads(
        y, [&] { return torchreel::convolve_3x3(x, weight, bias); }, name);
}

void test_upsampling(int64_t images, int64_t rows, int64_t columns, int64_t channels, int64_t height,
                     int64_t width, bool ours = true) {
  at::Tensor x = at::randn({images, rows, columns, channels}), bias = at::randn({channels});
  at::Tensor weight = at::randn({channels, channels, 3, 3}) / std::sqrt(9.0 * static_cast<double>(channels));
  at::Tensor doubled = x.to(at::kDouble).repeat_interleave(2, 1).repeat_interleave(2, 2);
  doubled = doubled.narrow(1, 0, height).narrow(2, 0, width).permute({0, 3, 1, 2});
  at::Tensor expected = at::conv2d(doubled, weight.to(at::kDouble), bias.to(at::kDouble), {1, 1}, {1, 1});
  at::Tensor y = torchreel::upsample_and_convolve(x, weight, bias, height, width);
  std::string name = "upsampling of " + c10::str(x.sizes()) + " to " + c10::str(y.sizes());
  check(y.is_contiguous(), name + " is contiguous");
  if (ours)
    check_threads(
        y, [&] { return torchreel::upsample_and_convolve(x, weight, bias, height, width); }, name);
  check(largest_difference(y, expected.permute({0, 2, 3, 1})) < 3e-5, name);
}

void test_convolution_of_frames(int64_t videos, int64_t frames, int64_t pixels, int64_t channels,
                                int64_t outputs, bool ours = true) {
  at::Tensor x = at::randn({videos, frames, pixels, channels}), bias = at::randn({outputs});
  at::Tensor weight =
      at::randn({outputs, channels, 3, 1, 1}) / std::sqrt(3.0 * static_cast<double>(channels));
  at::Tensor expected = at::conv2d(x.to(at::kDouble).permute({0, 3, 1, 2}), weight.to(at::kDouble).squeeze(4),
                                   bias.to(at::kDouble), {1, 1}, {1, 0});
  at::Tensor y = torchreel::convolve_frames(x, weight, bias);
  std::string name =
      "convolution over the frames of " + c10::str(x.sizes()) + " with " + c10::str(weight.sizes());
  check(y.is_contiguous(), name + " is contiguous");
  check(largest_difference(y, expected.permute({0, 2, 3, 1})) < 1e-4, name);
  if (ours)
    check_threads(
        y, [&] { return torchreel::convolve_frames(x, weight, bias); }, name);
  at::Tensor sum = at::randn(y.sizes()), both = sum + y;
  torchreel::add_convolve_frames(sum, x, weight, bias);
  check(sum.equal(both), name + " is added");
}

void test_linear(at::IntArrayRef shape, int64_t outputs, bool ours = true) {
  int64_t inputs = shape.back();
  at::Tensor x = at::randn(shape), bias = at::randn({outputs});
  at::Tensor weight = at::randn({outputs, inputs}) / std::sqrt(static_cast<double>(inputs));
  at::Tensor expected = at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble));
  std::string name = "linear layer of " + c10::str(shape) + " to " + std::to_string(outputs);
  auto check_layer = [&](const std::string& kind, const at::Tensor& expected,
                         const std::function<at::Tensor()>& operation) {
    at::Tensor y = operation();
    check(y.is_contiguous() && y.sizes() == expected.sizes(), kind + name + " has a shape of its own");
    check(largest_difference(y, expected) < 3e-5, kind + name);
    if (ours) check_threads(y, operation, kind + name);
  };
  check_layer("", expected, [&] { return torchreel::linear(x, weight, bias); });
  check_layer("unbiased ", expected - bias, [&] { return torchreel::linear(x, weight, std::nullopt); });
  check_layer("with gelu, ", at::gelu(expected, "tanh"),
              [&] { return torchreel::linear_gelu_tanh(x, weight, bias); });
  at::Tensor summand = at::randn(expected.sizes());
  auto add = [&] {
    at::Tensor sum = summand.clone();
    torchreel::add_linear(sum, x, weight, bias);
    return sum;
  };
  check_layer("added ", expected + summand, add);
  if (ours) check(add().equal(summand + torchreel::linear(x, weight, bias)), "the same bits, added " + name);
  if (outputs % 2 != 0) return;
  auto halves = expected.chunk(2, -1);
  check_layer("gated ", halves[0] * at::gelu(halves[1]),
              [&] { return torchreel::gated_linear(x, weight, bias); });
}

void check_unusual_layers() {
  at::Tensor x = at::randn({128, 2, 64}).select(1, 0), weight = at::randn({64, 96}).t(),
             bias = at::randn({96});
  at::Tensor expected = at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble));
  check(largest_difference(torchreel::linear(x, weight, bias), expected) < 1e-4, "rows with gaps");
  check(largest_difference(torchreel::linear(x, weight.unsqueeze(2).unsqueeze(3), bias), expected) < 1e-4,
        "the weight of a 1 × 1 convolution");
  // A bias with a stride.
  refuses("and a bias (O)", [&] { torchreel::linear(x, weight, at::randn({1}).expand({96})); });
  at::Tensor transposed = at::zeros({96, 128}).t();
  torchreel::add_linear(transposed, x, weight, bias);
  check(largest_difference(transposed, expected) < 1e-4, "a transposed sum");
  // Sums of another shape or type, and a sum of frames that is transposed.
  for (const at::Tensor& sum : {at::zeros({128, 95}), at::zeros({128, 96}, at::kDouble)}) {
    refuses("a sum of the layer's shape and dtype", [&] { torchreel::add_linear(sum, x, weight, bias); });
  }
  at::Tensor video = at::randn({1, 4, 5, 32}), kernel = at::randn({32, 32, 3, 1, 1}), base = at::randn({32});
  for (const at::Tensor& sum : {at::zeros({1, 5, 4, 32}).transpose(1, 2), at::zeros({1, 4, 5, 31}),
                                at::zeros({1, 4, 5, 32}, at::kDouble)}) {
    refuses("a contiguous sum (B, F, P, O)",
            [&] { torchreel::add_convolve_frames(sum, video, kernel, base); });
  }
  check(torchreel::gated_linear(at::empty({0, 64}), weight, bias).sizes() == at::IntArrayRef({0, 48}),
        "a linear layer of no rows");
}

void test_layer_norm(at::IntArrayRef shape, double mean) {
  int64_t channels = shape.back();
  at::Tensor x = at::randn(shape) + mean, weight = at::randn({channels}), bias = at::randn({channels});
  at::Tensor expected =
      at::layer_norm(x.to(at::kDouble), {channels}, weight.to(at::kDouble), bias.to(at::kDouble), 1e-5);
  at::Tensor y = torchreel::layer_norm(x, weight, bias, 1e-5);
  std::string name = "layer norm of " + c10::str(shape) + " around " + std::to_string(mean);
  check(y.sizes() == shape, name + " keeps the shape");
  check(largest_difference(y, expected) < 2e-6 * (10 + std::abs(mean)), name);
  check_threads(
      y, [&] { return torchreel::layer_norm(x, weight, bias, 1e-5); }, name);
}

void test_rms_norm(at::IntArrayRef shape, double size) {
  int64_t channels = shape.back();
  at::Tensor x = at::randn(shape) * size, weight = at::randn({channels});
  at::Tensor expected = at::rms_norm(x.to(at::kDouble), {channels}, weight.to(at::kDouble), 1e-6);
  at::Tensor y = torchreel::rms_norm(x, weight, 1e-6);
  std::string name = "RMS norm of " + c10::str(shape) + " of size " + std::to_string(size);
  check(y.sizes() == shape, name + " keeps the shape");
  check(largest_difference(y, expected) < 1e-5, name);
  check_threads(
      y, [&] { return torchreel::rms_norm(x, weight, 1e-6); }, name);
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
      test_attention(1, 1, 1, sources, width);
      test_attention(65, 3, sources, sources, width);
      test_attention(9, 2, 11, sources, width);
    }
  }
  for (int64_t frames : {1, 2, 3, 5, 8, 9, 16, 24}) {
    for (int64_t width : {20, 64}) test_attention_of_frames(37, 3, frames, width);
  }
  for (int64_t width : {8, 16, 64, 80, 512}) {
    for (int64_t sources : {33, 77, 100, 576, 1100}) {
      test_attention(1, 1, 1, sources, width);
      test_attention(3, 2, 65, sources, width);
    }
  }
  test_attention(1, 1, 40, 1300, 512);           // libtorch's own
  test_convolution(2, 8, 8, 32, 32, false);      // 32 tiles, as few as pay
  test_convolution(3, 33, 17, 48, 64, true);     // sides that are odd: half tiles
  test_convolution(1, 11, 12, 512, 528, false);  // more kernels than are transformed at a time
  test_convolution(1, 31, 32, 64, 80, true);
  test_convolution(1, 8, 8, 32, 32, false, false);   // libtorch's own: too few tiles …
  test_convolution(1, 40, 40, 4, 32, false, false);  // … or channels
  test_convolution(1, 40, 40, 40, 3, true, false);
  test_upsampling(1, 16, 16, 32, 32, 32);
  test_upsampling(2, 13, 20, 48, 25, 39);  // cut
  test_upsampling(2, 13, 20, 48, 26, 39);
  test_upsampling(1, 3, 3, 32, 6, 6, false);  // libtorch's own
  test_upsampling(1, 3, 3, 8, 5, 5, false);
  for (int64_t frames : {1, 2, 3, 4, 5, 8, 14, 16}) test_convolution_of_frames(2, frames, 300, 32, 48);
  test_convolution_of_frames(1, 6, 20, 1024, 656);
  test_convolution_of_frames(1, 5, 7, 32, 32, false);  // libtorch's own
  test_convolution_of_frames(1, 4, 400, 20, 20, false);
  test_linear({4, 64, 96}, 96);
  test_linear({64, 16}, 32);        // as few rows as pay
  test_linear({3000, 48}, 80);      // several blocks of rows; a narrow last panel
  test_linear({1100, 1040}, 1312);  // inputs in three parts
  test_linear({2, 40, 32}, 128);
  test_linear({77, 64}, 1280);  // fewer rows than 40 threads could share
  check_unusual_layers();
  test_linear({63, 64}, 64, false);   // libtorch's own: too few rows …
  test_linear({100, 20}, 36, false);  // … or widths that do not fit
  test_linear({100, 32}, 7, false);
  for (double mean : {0.0, -3.0, 1000.0}) {
    test_layer_norm({2, 300, 96}, mean);
    test_layer_norm({7, 1280}, mean);
    test_layer_norm({5, 20}, mean);  // libtorch's own
  }
  for (double size : {1e-4, 1.0, 1000.0}) {
    test_rms_norm({2, 300, 96}, size);
    test_rms_norm({7, 1536}, size);
    test_rms_norm({5, 20}, size);  // libtorch's own
  }
  at::Tensor one = at::randn({1, 1, 2, 4});
  refuses("queries, keys and values that fit each other", [&] {
    torchreel::attention(one, one, at::randn({1, 1, 3, 4}));
  });
  return 0;
}
