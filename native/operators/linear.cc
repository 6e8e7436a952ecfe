#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>

#include "operators.h"
#include "packed_product.h"

namespace torchreel {
namespace {

// gelu(x) = x·Φ(x), with Φ by Abramowitz and Stegun 7.1.26, whose error is at most 1.5e-7.
TORCHREEL_INLINE void gelu(Floats& x) {
  Floats z = x * 0.70710678118f;
  Floats size = z < 0.0f ? -z : z;
  Floats t = 1.0f / (size * 0.3275911f + 1.0f);
  Floats power = Floats{} + 1.061405429f;
  power = power * t - 1.453152027f;
  power = power * t + 1.421413741f;
  power = power * t - 0.284496736f;
  power = (power * t + 0.254829592f) * t;
  Floats decay = -z * z;
  exponential(decay);
  Floats tail = power * decay * 0.5f;  // Φ(-|x|)
  x *= z < 0.0f ? tail : 1.0f - tail;
}

// y = (sums + bias)·gelu(gates + gate_bias), `stride` numbers between the rows of y.
TORCHREEL_CLONED void finish_gated(const float* sums, const float* gates, int64_t rows, int64_t width,
                                   const BFloat16* bias, const BFloat16* gate_bias, BFloat16* y,
                                   int64_t stride) {
  for (int64_t i = 0; i < width; i += lanes) {
    Floats base = load(bias + i), gate_base = load(gate_bias + i);
    for (int64_t row = 0; row < rows; ++row) {
      Floats gate = load(gates + row * width + i) + gate_base;
      gelu(gate);
      store(y + row * stride + i, (load(sums + row * width + i) + base) * gate);
    }
  }
}

at::Tensor output_of(const at::Tensor& x, int64_t outputs) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = outputs;
  return at::empty(shape, x.options());
}

void check_packed(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(x.scalar_type() == at::kBFloat16 && x.dim() > 0 && x.size(-1) == 2 * weight.size(1),
              "a packed linear layer takes bfloat16 (…, C)");
  TORCH_CHECK(!bias || (bias->is_contiguous() && bias->scalar_type() == at::kBFloat16 &&
                        bias->numel() == weight.size(0) * weight.size(2)),
              "a packed linear layer takes a bfloat16 bias (O)");
}

}  // namespace

at::Tensor linear(const at::Tensor& given, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  if (!is_packed(weight)) return at::linear(given, weight.flatten(1), bias);
  check_packed(given, weight, bias);
  at::Tensor x = given.contiguous(), y = output_of(x, weight.size(0) * weight.size(2));
  if (y.numel() == 0) return y;
  Panels panels(weight);
  const BFloat16 *from = x.const_data_ptr<BFloat16>(),
                 *base = bias ? bias->const_data_ptr<BFloat16>() : nullptr;
  BFloat16* to = y.mutable_data_ptr<BFloat16>();
  in_blocks(x.numel() / panels.inputs, panels.count, most_rows_of_block * panels.width,
            [&](const Block& block, float* sums) {
              const BFloat16* rows = from + block.row * panels.inputs;
              for (int64_t panel = block.panel; panel < block.panel + block.panels; ++panel) {
                int64_t first = panel * panels.width;
                multiply(rows, panels.inputs, block.rows, panels, panel, sums);
                finish(sums, block.rows, panels.width, base ? base + first : nullptr,
                       to + block.row * panels.outputs + first, panels.outputs);
              }
            });
  return y;
}

at::Tensor gated_linear(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias) {
  int64_t outputs = bias.numel() / 2;
  if (!is_packed(weight) || outputs % weight.size(2) != 0) {
    std::vector<at::Tensor> halves = torchreel::linear(given, weight, bias).chunk(2, -1);
    return halves[0] * at::gelu(halves[1]);
  }
  check_packed(given, weight, bias);
  at::Tensor x = given.contiguous(), y = output_of(x, outputs);
  if (y.numel() == 0) return y;
  Panels panels(weight);
  int64_t half = panels.count / 2, tile = most_rows_of_block * panels.width;
  const BFloat16 *from = x.const_data_ptr<BFloat16>(), *base = bias.const_data_ptr<BFloat16>();
  BFloat16* to = y.mutable_data_ptr<BFloat16>();
  in_blocks(x.numel() / panels.inputs, half, 2 * tile, [&](const Block& block, float* sums) {
    const BFloat16* rows = from + block.row * panels.inputs;
    for (int64_t panel = block.panel; panel < block.panel + block.panels; ++panel) {
      int64_t first = panel * panels.width;
      multiply(rows, panels.inputs, block.rows, panels, panel, sums);
      multiply(rows, panels.inputs, block.rows, panels, half + panel, sums + tile);
      finish_gated(sums, sums + tile, block.rows, panels.width, base + first, base + outputs + first,
                   to + block.row * outputs + first, outputs);
    }
  });
  return y;
}

}  // namespace torchreel
