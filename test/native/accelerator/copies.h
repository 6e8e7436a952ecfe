// Copies between tensors, of which one at least is on the device.
#pragma once

#include <ATen/core/Tensor.h>

namespace accelerator {

// Both on the same device, of the same shape.
void copy_on_device(const at::Tensor& to, const at::Tensor& from);

void count_to_host(int device, int64_t bytes);

}  // namespace accelerator
