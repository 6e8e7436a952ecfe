// What ends a job between two pieces of its work.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "torchreel_core.h"

namespace torchreel {

// Throws ABORTED.
void stop_if_cancelled(const torchreel_listener& listener);

// Waits for the tensor. Throws ERR_NUMERIC with the stage and step if it holds NaN or infinity.
// network: such as "the text encoder".
void check_finite(const at::Tensor& tensor, const std::string& network, const char* stage, int64_t step);

}  // namespace torchreel
