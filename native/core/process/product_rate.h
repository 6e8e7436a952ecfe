// How fast the CPU multiplies matrices in a type.
#pragma once

#include <c10/core/ScalarType.h>

namespace torchreel {

// Floating-point operations a second of products of large matrices, the best of several. Takes about a
// second where a type is slow.
double measure_product_rate(at::ScalarType dtype);

}  // namespace torchreel
