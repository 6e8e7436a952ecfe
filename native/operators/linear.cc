#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>

#include "operators.h"
#include "packed_product.h"
#include "panel_product.h"

namespace torchreel {
namespace {

// gelu(x) = x·Φ(x), with Φ(x) = 1/2 + x·q(x²) up to |x| = 4.25, where it is nearly 0 or 1. q is the
// polynomial for which the largest error of gelu, 1.6e-5, is smallest. bfloat16 needs no more.
TORCHREEL_INLINE Floats gelu(const Floats& x, BFloat16 /*precision*/) {
  constexpr float most = 4.25f;
  Floats z = x < -most ? Floats{} - most : x;
  z = z > most ? Floats{} + most : z;
  Floats s = z * z * (2 / (most * most)) - 1.0f;
  Floats q = Floats{} + 0.00201240834f;
  q = q * s - 0.00602775859f;
  q = q * s + 0.00922926329f;
  q = q * s - 0.0146163097f;
  q = q * s + 0.0253226943f;
  q = q * s - 0.0391652808f;
  q = q * s + 0.0557330586f;
  q = q * s - 0.0807775483f;
  q = q * s + 0.165934891f;
  return x * (z * q + 0.5f);
}

// The same to float32's precision: 1 - Φ(|x|) = (a₁t + … + a₅t⁵)·e^(-x²/2) / 2 with t = 1 / (1 + p·|x|/√2)
// (Abramowitz and Stegun 1964, formula 7.1.26), whose error is at most 7.5e-8.
TORCHREEL_INLINE Floats gelu(const Floats& x, float /*precision*/) {
  Floats size = x < 0.0f ? -x : x;
  Floats t = 1.0f / (size * (0.3275911f * 0.707106781f) + 1.0f);
  Floats rest = Floats{} + 0.5f * 1.061405429f;
  rest = rest * t - 0.5f * 1.453152027f;
  rest = rest * t + 0.5f * 1.421413741f;
  rest = rest * t - 0.5f * 0.284496736f;
  rest = rest * t + 0.5f * 0.254829592f;
  Floats power = x * x * -0.5f;
  exponential(power);
  rest *= t * power;
  return x < 0.0f ? x * rest : x - x * rest;
}

// x·(1 + tanh u) / 2 = x / (1 + e^(-2u)) with u = √(2/π)·(x + 0.044715·x³).
TORCHREEL_INLINE Floats gelu_tanh(const Floats& x) {
  Floats power = x * (x * x * 0.044715f + 1.0f) * -1.59576912f;
  exponential(power);
  return x / (power + 1.0f);
}

enum class Layer { plain, gelu_tanh, gated, added };

// Where each row of a tensor (inner, outer, C) or (…, C) begins, counted in numbers. In (inner, outer, C),
// the first index changes fastest: row r has the indices r % inner and r / inner.
struct Rows {
  int64_t inner, outer_stride, stride;

  int64_t at(int64_t row) const { return row / inner * outer_stride + row % inner * stride; }
};

// y = activation(sums + bias), or y += sums + bias. outputs: of the layer.
template <Layer layer, typename Number>
TORCHREEL_INLINE void finish_layer(const Product& product, const Number* bias, int64_t outputs, Number* y,
                                   const Rows& rows) {
  bias += bias ? product.output : 0;
  y += rows.at(product.row) + product.output;
  for (int64_t i = 0; i < product.width; i += lanes) {
    Floats base{}, gate_base{};
    if (bias) base = load_fast(bias + i);
    if (layer == Layer::gated) gate_base = load_fast(bias + outputs + i);
    for (int64_t row = 0; row < product.rows; ++row) {
      int64_t at = row * product.width + i;
      Floats sum = load(product.sums + at) + base;
      if (layer == Layer::gelu_tanh) sum = gelu_tanh(sum);
      if (layer == Layer::gated) sum *= gelu(load(product.gates + at) + gate_base, Number{});
      Number* to = y + row * rows.stride + i;
      if (layer == Layer::added) sum = load_fast(to) + sum;
      store_fast(to, sum);
    }
  }
}

template <typename Number>
TORCHREEL_INLINE void finish_layer(const Product& product, Layer layer, const Number* bias, int64_t outputs,
                                   Number* y, const Rows& rows) {
  if (layer == Layer::plain) return finish_layer<Layer::plain>(product, bias, outputs, y, rows);
  if (layer == Layer::gelu_tanh) return finish_layer<Layer::gelu_tanh>(product, bias, outputs, y, rows);
  if (layer == Layer::added) return finish_layer<Layer::added>(product, bias, outputs, y, rows);
  finish_layer<Layer::gated>(product, bias, outputs, y, rows);
}

TORCHREEL_CLONED void finish_floats(const Product& product, Layer layer, const float* bias, int64_t outputs,
                                    float* y, const Rows& rows) {
  finish_layer(product, layer, bias, outputs, y, rows);
}

TORCHREEL_BFLOAT16 void finish_bfloats(const Product& product, Layer layer, const BFloat16* bias,
                                       int64_t outputs, BFloat16* y, const Rows& rows) {
  finish_layer(product, layer, bias, outputs, y, rows);
}

using Finish = c10::function_ref<void(const Product&)>;

// The products of all rows of x with a packed weight (outputs, K); if gated, with both halves of a weight
// (2·outputs, K). A product is of rows with the same outer index.
void multiply_packed(const BFloat16* x, const Rows& rows_of_x, int64_t rows, const Panels& weight, bool gated,
                     Finish finish) {
  int64_t panels = gated ? weight.count / 2 : weight.count, tile = rows_of_product * weight.width;
  in_blocks(rows, weight.inputs, panels, 2 * tile, [&](const Block& block, float* sums) {
    for (int64_t panel = block.panel; panel < block.panel + block.panels; ++panel) {
      for (int64_t row = block.row, count = 0; row < block.row + block.rows; row += count) {
        count = std::min(
            {rows_of_product, block.row + block.rows - row, rows_of_x.inner - row % rows_of_x.inner});
        const BFloat16* from = x + rows_of_x.at(row);
        multiply(from, rows_of_x.stride, count, weight, panel, sums);
        if (gated) multiply(from, rows_of_x.stride, count, weight, panels + panel, sums + tile);
        finish({row, count, panel * weight.width, weight.width, sums, sums + tile});
      }
    }
  });
}

at::Tensor in_steps(Layer layer, const at::Tensor& x, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias, const at::Tensor& sum) {
  if (layer == Layer::added) return sum.add_(torchreel::linear(x, weight, bias));
  // With gaps between the rows, libtorch would round the sum before it adds the bias.
  at::Tensor y = is_packed(weight) ? torchreel::linear(x, weight, bias)
                                   : at::linear(x.contiguous(), weight.flatten(1), bias);
  if (layer == Layer::gelu_tanh) return at::gelu_(y, "tanh");
  if (layer == Layer::plain) return y;
  std::vector<at::Tensor> halves = y.chunk(2, -1);
  return halves[0] * at::gelu(halves[1]);
}

// A view (inner, outer, C) of (outer, inner, C), such as the positions of frames. Its rows do not overlap.
bool is_transposed(const at::Tensor& x) {
  return x.dim() == 3 && !x.is_contiguous() && x.stride(2) == 1 && x.stride(0) >= x.size(2) &&
         x.stride(1) >= x.size(0) * x.stride(0);
}

// The rows of x (…, C) as one list, or by outer and inner index.
Rows rows_of(const at::Tensor& x, bool by_index) {
  if (by_index) return {std::max<int64_t>(x.size(0), 1), x.stride(1), x.stride(0)};
  return {std::max<int64_t>(x.numel(), 1), 0, x.size(-1)};
}

// sum: the tensor that Layer::added adds to and returns.
at::Tensor apply(Layer layer, const at::Tensor& given, const at::Tensor& weight,
                 const std::optional<at::Tensor>& bias, const at::Tensor& sum = {}) {
  bool packed = is_packed(weight), gated = layer == Layer::gated;
  int64_t parts = gated ? 2 : 1, all = packed ? weight.size(0) * weight.size(2) : weight.size(0);
  int64_t inputs = weight.numel() / std::max<int64_t>(all, 1), outputs = all / parts;
  TORCH_CHECK(given.dim() > 0 && given.size(-1) == inputs && all % parts == 0 &&
                  given.scalar_type() == weight.scalar_type() &&
                  (!bias || (bias->numel() == all && bias->is_contiguous())),
              "a linear layer takes (…, C) and a bias (O), in its weight's dtype");
  int64_t rows = given.numel() / std::max<int64_t>(inputs, 1);
  bool fits = packed ? outputs % weight.size(2) == 0
                     : given.scalar_type() == at::kFloat && panels_pay(rows, inputs, outputs);
  std::vector<int64_t> shape = given.sizes().vec();
  shape.back() = outputs;
  bool added = layer == Layer::added;
  TORCH_CHECK(!added || (sum.scalar_type() == given.scalar_type() && sum.sizes() == shape),
              "add_linear takes a sum of the layer's shape and dtype");
  bool has_rows = !added || sum.is_contiguous() || (packed && is_transposed(sum));
  if (!fits || !has_rows) return in_steps(layer, given, weight, bias, sum);
  at::Tensor x = packed && is_transposed(given) ? given : given.contiguous();
  at::Tensor y = added ? sum : at::empty(shape, given.options());
  if (y.numel() == 0) return y;
  if (packed) {
    bool by_index = !x.is_contiguous() || !y.is_contiguous();
    Rows rows_of_x = rows_of(x, by_index), rows_of_y = rows_of(y, by_index);
    const BFloat16* base = bias ? bias->const_data_ptr<BFloat16>() : nullptr;
    BFloat16* to = y.mutable_data_ptr<BFloat16>();
    multiply_packed(
        x.const_data_ptr<BFloat16>(), rows_of_x, rows, Panels(weight), gated,
        [&](const Product& product) { finish_bfloats(product, layer, base, outputs, to, rows_of_y); });
  } else {
    Rows rows_of_y = rows_of(y, false);
    const float* base = bias ? bias->const_data_ptr<float>() : nullptr;
    float* to = y.mutable_data_ptr<float>();
    multiply_in_panels(
        x.const_data_ptr<float>(), rows, weight.contiguous().const_data_ptr<float>(), inputs, outputs, gated,
        [&](const Product& product) { finish_floats(product, layer, base, outputs, to, rows_of_y); });
  }
  return y;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  return apply(Layer::plain, x, weight, bias);
}

void add_linear(const at::Tensor& sum, const at::Tensor& x, const at::Tensor& weight,
                const std::optional<at::Tensor>& bias) {
  apply(Layer::added, x, weight, bias, sum);
}

at::Tensor linear_gelu_tanh(const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
  return apply(Layer::gelu_tanh, x, weight, bias);
}

at::Tensor gated_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return apply(Layer::gated, x, weight, bias);
}

}  // namespace torchreel
