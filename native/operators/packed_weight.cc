#include "packed_weight.h"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/empty.h>

#include "bfloat16.h"
#include "parallel.h"
#include "products.h"

namespace torchreel {
namespace {

// Of the widths that oneDNN's products take at full speed, the largest that divides.
int64_t panel_width_of(int64_t outputs) {
  for (int64_t width : {64, 48, 32}) {
    if (outputs % width == 0) return width;
  }
  return 16;
}

bool processor_has(const char* name) {
  auto capabilities = at::cpu::get_cpu_capabilities();
  auto found = capabilities.find(name);
  return found != capabilities.end() && found->second.toBool();
}

// Rows (width, pairs), `stride` pairs between them, become (pairs, width).
TORCHREEL_CLONED void transpose_pairs(const uint32_t* rows, int64_t stride, int64_t pairs, int64_t width,
                                      uint32_t* panel) {
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int64_t row = 0; row < width; ++row) panel[pair * width + row] = rows[row * stride + pair];
  }
}

}  // namespace

bool has_amx() {
  static const bool has = processor_has("amx_bf16");
  return has;
}

bool multiplies_bfloat16() {
  static const bool can = (processor_has("avx512_bf16") || has_amx()) && has_products<BFloat16>();
  return can;
}

at::Tensor pack(const at::Tensor& given) {
  at::Tensor weight = given.to(at::kBFloat16);
  int64_t outputs = weight.size(0), size = weight.numel() / std::max<int64_t>(outputs, 1);
  if (weight.dim() < 2 || outputs % lanes != 0 || size % 2 != 0 || weight.numel() == 0) return weight;
  at::Tensor rows = weight.dim() == 2 ? weight.contiguous() : weight.flatten(2).transpose(1, 2).contiguous();
  int64_t width = panel_width_of(outputs), pairs = size / 2;
  at::Tensor panels = at::empty({outputs / width, pairs, width, 2}, weight.options());
  auto from = static_cast<const uint32_t*>(rows.const_data_ptr());
  auto to = static_cast<uint32_t*>(panels.mutable_data_ptr());
  in_parallel(outputs / width, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      transpose_pairs(from + panel * width * pairs, pairs, pairs, width, to + panel * width * pairs);
  });
  return panels;
}

}  // namespace torchreel
