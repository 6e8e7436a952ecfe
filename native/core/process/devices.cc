#include "process/devices.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <exception>

#include "process/error.h"

namespace torchreel {

at::ScalarType dtype_named(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float16") return at::kHalf;
  if (name == "bfloat16") return at::kBFloat16;
  throw invalid_argument("dtype must be 'float32', 'float16' or 'bfloat16', got '" + name + "'");
}

at::Device device_named(const std::string& name) {
  at::Device device(at::kCPU);
  try {
    device = at::Device(name);
  } catch (const c10::Error&) {
    throw invalid_argument("device must be 'cpu', 'cuda' or 'cuda:N', got '" + name + "'");
  }
  if (device.is_cpu()) return device;
  std::string kind = c10::DeviceTypeName(device.type(), /*lower_case=*/true);
  auto unavailable = [&](const std::string& reason) {
    return Error("ERR_DEVICE_UNAVAILABLE", "device '" + name + "' is not available: " + reason);
  };
  if (!c10::impl::hasDeviceGuardImpl(device.type()))
    throw unavailable("this libtorch was built without " + kind);
  int count = c10::impl::VirtualGuardImpl(device.type()).deviceCount();
  if (count == 0) throw unavailable("libtorch finds no " + kind + " device");
  if (device.has_index() && device.index() >= count) {
    throw unavailable("libtorch finds only " + std::to_string(count) + ", the last is " + kind + ":" +
                      std::to_string(count - 1));
  }
  return device.has_index() ? device : at::Device(device.type(), 0);
}

at::Tensor to_device(const at::Tensor& host, at::Device device) {
  return device.is_cpu() ? host : host.pin_memory().to(device, host.scalar_type(), /*non_blocking=*/true);
}

void wait_for(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

void finish_work(at::Device device) noexcept {
  try {
    wait_for(device);
  } catch (const std::exception&) {
  }
}

}  // namespace torchreel
