// Products of rows in float32 with a weight in the order in which it is published.
#pragma once

#include <c10/util/FunctionRef.h>

#include "products.h"

namespace torchreel {

// Whether `multiply_in_panels` takes a layer of this size, and is faster than libtorch.
bool panels_pay(int64_t rows, int64_t inputs, int64_t outputs);

// Calls finish(product) for all rows of x (rows, inputs) and all outputs, in parallel. weight: (outputs,
// inputs), gated: (2·outputs, inputs). inputs, outputs: multiples of 16.
void multiply_in_panels(const float* x, int64_t rows, const float* weight, int64_t inputs, int64_t outputs,
                        bool gated, c10::function_ref<void(const Product&)> finish);

}  // namespace torchreel
