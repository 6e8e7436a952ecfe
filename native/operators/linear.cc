#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>

#include "operators.h"
#include "packed_product.h"

namespace torchreel {
namespace {

// gelu(x) = x·Φ(x), with Φ(x) = 1/2 + x·q(x²) up to |x| = 4.25, where it is nearly 0 or 1. q is the
// polynomial for which the largest error of gelu, 1.6e-5, is smallest. bfloat16 needs no more.
TORCHREEL_INLINE void gelu(Floats& x) {
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
  x *= z * q + 0.5f;
}

// y = (sums + bias)·gelu(gates + gate_bias), `stride` numbers between the rows of y.
TORCHREEL_BFLOAT16 void finish_gated(const float* sums, const float* gates, int64_t rows, int64_t width,
                                     const BFloat16* bias, const BFloat16* gate_bias, BFloat16* y,
                                     int64_t stride) {
  for (int64_t row = 0; row < rows; ++row, sums += width, gates += width, y += stride) {
    for (int64_t i = 0; i < width; i += lanes) {
      Floats gate = load(gates + i) + load(gate_bias + i);
      gelu(gate);
      store_fast(y + i, (load(sums + i) + load(bias + i)) * gate);
    }
  }
}

at::Tensor output_of(const at::Tensor& x, int64_t outputs) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = outputs;
  return at::empty(shape, x.options());
}

void check_packed_linear(const at::Tensor& x, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(x.scalar_type() == at::kBFloat16 && x.dim() > 0 && x.size(-1) == 2 * weight.size(1),
              "a packed linear layer takes bfloat16 (…, C)");
  TORCH_CHECK(!bias || (bias->is_contiguous() && bias->scalar_type() == at::kBFloat16 &&
                        bias->numel() == weight.size(0) * weight.size(2)),
              "a packed linear layer takes a bfloat16 bias (O)");
}

}  // namespace

at::Tensor linear(const at::Tensor& given, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  if (!is_packed(weight)) return at::linear(given, weight.flatten(1), bias);
  check_packed_linear(given, weight, bias);
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
  check_packed_linear(given, weight, bias);
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
