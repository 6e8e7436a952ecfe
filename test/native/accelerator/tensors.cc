// Tensors of the device: made, seen in another shape, resized, read by the host.
#include <ATen/EmptyTensor.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/library.h>

#include "copies.h"
#include "kernel.h"
#include "memory.h"

namespace accelerator {
namespace {

constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);

c10::Device device_or_current(std::optional<c10::Device> device) {
  if (device && device->has_index()) return *device;
  return {type, static_cast<c10::DeviceIndex>(current_device())};
}

c10::Allocator* allocator() { return c10::GetAllocator(type); }

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<c10::Device> device, std::optional<bool> pinned,
                 std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!pinned.value_or(false), "Only dense CPU tensors can be pinned");
  c10::DeviceGuard guard(device_or_current(device));
  return at::detail::empty_generic(size, allocator(), keys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<c10::Device> device,
                         std::optional<bool> pinned) {
  TORCH_CHECK(!pinned.value_or(false), "Only dense CPU tensors can be pinned");
  c10::DeviceGuard guard(device_or_current(device));
  return at::detail::empty_strided_generic(size, stride, allocator(), keys, c10::dtype_or_default(dtype));
}

// What was there stays, as far as it fits: copied on the device.
const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size,
                          std::optional<at::MemoryFormat> format) {
  at::Tensor like = at::empty(size, self.options().device(at::kMeta), format);
  size_t bytes = static_cast<size_t>(like.numel() + self.storage_offset()) * self.itemsize();
  if (like.numel() > 0 && bytes > self.storage().nbytes()) {
    c10::DeviceGuard guard(self.device());
    c10::Storage before = self.storage();
    auto kept = static_cast<int64_t>(before.nbytes());
    c10::Storage after(c10::Storage::use_byte_size_t(), bytes, allocator(), /*resizable=*/true);
    if (kept > 0) {
      auto as_bytes = [&](const c10::Storage& storage) {
        at::Tensor tensor = at::empty({0}, self.options().dtype(at::kByte));
        tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
        tensor.unsafeGetTensorImpl()->set_sizes_contiguous({kept});
        return tensor;
      };
      copy_on_device(as_bytes(after), as_bytes(before));
    }
    self.unsafeGetTensorImpl()->set_storage_keep_dtype(after);
  }
  self.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides());
  return self;
}

at::Tensor& set_storage(at::Tensor& self, c10::Storage source, int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride) {
  TORCH_CHECK(source.device() == self.device(), "Expected all tensors to be on the same device");
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(source));
  self.unsafeGetTensorImpl()->set_storage_offset(offset);
  at::Tensor like = at::empty(size, at::TensorOptions(at::kMeta));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride.empty() ? like.strides() : stride);
  return self;
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  c10::Stream stream = current_stream(self.get_device());
  Kernel copy("aten::_local_scalar_dense", self.device(), Kernel::Kind::copy);
  copy.reads(self);
  synchronize(stream);
  count_to_host(self.get_device(), static_cast<int64_t>(self.itemsize()));
  return at::_local_scalar_dense(opened(self));
}

void record_stream(at::Tensor& self, c10::Stream stream) {
  c10::getDeviceAllocator(type)->recordStream(self.storage().data_ptr(), stream);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("resize_", resize_);
  library.impl("view", at::native::view);
  library.impl("view_as_complex", at::native::view_as_complex);
  library.impl("view_as_real", at::native::view_as_real);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("unfold", at::native::unfold);
  library.impl("set_.source_Storage_storage_offset", set_storage);
  library.impl("set_.source_Tensor", set_tensor);
  library.impl("_local_scalar_dense", local_scalar_dense);
  library.impl("record_stream", record_stream);
}

}  // namespace
}  // namespace accelerator
