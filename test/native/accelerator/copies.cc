// As CUDA's: one piece of memory goes over, in the layout and type that it is to have. What has another is
// first copied where it is; what is to lie in pieces is first brought over in one.
#include "copies.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <cstring>

#include "kernel.h"
#include "pinned_memory.h"

namespace accelerator {
namespace {

// One after the other in memory, in the same order.
bool lie_alike(const at::Tensor& one, const at::Tensor& other) {
  if (one.scalar_type() != other.scalar_type() || one.sizes() != other.sizes()) return false;
  for (int64_t i = 0; i < one.dim(); ++i) {
    if (one.size(i) > 1 && one.stride(i) != other.stride(i)) return false;
  }
  return one.is_non_overlapping_and_dense();
}

// A copy where it lies, in one piece and of the other's type; `like` in layout, if that is in one piece.
at::Tensor in_one_piece(const at::Tensor& tensor, const at::Tensor& like) {
  at::Tensor piece =
      like.is_non_overlapping_and_dense()
          ? at::empty_strided(like.sizes(), like.strides(), tensor.options().dtype(like.dtype()))
          : at::empty(like.sizes(), tensor.options().dtype(like.dtype()));
  return piece.copy_(tensor.expand_as(like));
}

// The device reads, or writes, the host's memory; both lie alike.
void transfer(const at::Tensor& device, const at::Tensor& host, bool to_device, bool non_blocking) {
  bool pinned = is_pinned(host.const_data_ptr());
  bool waits = !(non_blocking && pinned);
  Kernel copy("aten::copy_", device.device(), Kernel::Kind::copy);
  TORCH_CHECK(!(waits && copy.is_recorded()), "CUDA error: operation not permitted when stream is capturing");
  at::Tensor seen = opened(device);
  auto bytes = static_cast<size_t>(seen.numel()) * seen.itemsize();
  if (to_device) {
    copy.writes(device);
    copy.run([seen, host, bytes] { std::memcpy(seen.mutable_data_ptr(), host.const_data_ptr(), bytes); });
  } else {
    copy.reads(device);
    copy.run([seen, host, bytes] { std::memcpy(host.mutable_data_ptr(), seen.const_data_ptr(), bytes); });
  }
  if (waits) synchronize(copy.stream());
  std::lock_guard lock(mutex());
  Counters& counters = state(device.get_device()).counters;
  (to_device ? counters.to_device : counters.to_host) += static_cast<int64_t>(bytes);
  if (!waits && !copy.is_recorded())
    lock_pinned_memory(host.const_data_ptr(), !to_device, stream_number(copy.stream()), copy.tick());
}

// Each device's stream waits for the other's: before, for what is to be overwritten; after, for what is then
// there.
void copy_between(const at::Tensor& to, const at::Tensor& from) {
  size_t source = stream_number(current_stream(from.get_device()));
  size_t target = stream_number(current_stream(to.get_device()));
  {
    std::lock_guard lock(mutex());
    check_not_lost(to.get_device());
    check_not_lost(from.get_device());
    begin_work(current_stream(from.get_device()), false);
    stream_clock(source).join(stream_clock(target));
    if (BlockPointer block = block_of(from)) order("aten::copy_", source, *block, false);
    if (BlockPointer block = block_of(to)) order("aten::copy_", source, *block, true);
    stream_clock(target).join(stream_clock(source));
  }
  opened(to).copy_(opened(from));
}

at::Tensor& copy_(at::Tensor& to, const at::Tensor& source, bool non_blocking) {
  if (to.is_same(source) || to.numel() == 0) return to;
  at::Tensor from = source.expand_as(to);
  if (is_on_device(to) && is_on_device(from)) {
    if (to.device() == from.device())
      copy_on_device(to, from);
    else
      copy_between(to, from);
  } else if (is_on_device(to)) {
    TORCH_CHECK(from.is_cpu(), "nothing but the CPU's memory is copied to ", to.device());
    at::Tensor piece = lie_alike(to, from) ? from : in_one_piece(from, to);
    if (to.is_non_overlapping_and_dense()) {
      transfer(to, piece, /*to_device=*/true, non_blocking);
    } else {
      at::Tensor there = at::empty_strided(piece.sizes(), piece.strides(), to.options());
      transfer(there, piece, /*to_device=*/true, non_blocking);
      copy_on_device(to, there);
    }
  } else {
    TORCH_CHECK(to.is_cpu(), "memory of ", from.device(), " is copied to nothing but the CPU's");
    at::Tensor piece = lie_alike(to, from) ? from : in_one_piece(from, to);
    if (to.is_non_overlapping_and_dense()) {
      transfer(piece, to, /*to_device=*/false, non_blocking);
    } else {
      at::Tensor here = at::empty_strided(piece.sizes(), piece.strides(), to.options());
      transfer(piece, here, /*to_device=*/false, false);
      to.copy_(here);
    }
  }
  return to;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  at::Tensor target = to;
  return copy_(target, from, non_blocking);
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("copy_", copy_);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
}

}  // namespace

void copy_on_device(const at::Tensor& to, const at::Tensor& from) {
  Kernel copy("aten::copy_", to.device());
  copy.reads(from);
  copy.writes(to);
  copy.run([to = opened(to), from = opened(from)]() mutable { to.copy_(from); });
}

void count_to_host(int device, int64_t bytes) {
  std::lock_guard lock(mutex());
  state(device).counters.to_host += bytes;
}

}  // namespace accelerator
