// Weights in bfloat16, stored in the order in which products of matrices read them.
#pragma once

#include <ATen/core/Tensor.h>

namespace torchreel {

// Whether this processor multiplies bfloat16 faster than float32 (AVX512-BF16 or AMX), and this libtorch has
// products for it.
bool multiplies_bfloat16();

// Whether it multiplies whole tiles of matrices (AMX), eight times as many numbers at a time.
bool has_amx();

// A weight (O, …) of a linear layer or a convolution in bfloat16, as panels (O / width, K / 2, width, 2) of
// `width` outputs each: K = the elements of a kernel, channels last. A weight that does not fit is only
// converted: O must be a multiple of 16, K even.
at::Tensor pack(const at::Tensor& weight);

// Whether a weight went through `pack`. No network has a plain weight of such a shape.
inline bool is_packed(const at::Tensor& weight) {
  return weight.dim() == 4 && weight.size(3) == 2 && weight.size(2) % 16 == 0;
}

}  // namespace torchreel
