// Devices and number types by their names, and the copies and waits between host and device.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace torchreel {

// Throws ERR_INVALID_ARGUMENT for another name than 'float32', 'float16' and 'bfloat16'.
at::ScalarType dtype_named(const std::string& name);

// Throws ERR_INVALID_ARGUMENT for a name that is not a device's, ERR_DEVICE_UNAVAILABLE where the machine or
// this libtorch has no such device.
at::Device device_named(const std::string& name);

// A copy that the host does not wait for: it is made from page-locked memory, which lives until it is done.
at::Tensor to_device(const at::Tensor& host, at::Device device);

// Until the device has done all work of this thread's stream.
void wait_for(at::Device device);

// The same while cleaning up: it does not throw. A lost device computes nothing more.
void finish_work(at::Device device) noexcept;

}  // namespace torchreel
