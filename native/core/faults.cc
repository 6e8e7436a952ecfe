#ifdef TORCHREEL_FAULTS

#include "faults.h"

#include <ATen/ops/full_like.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>

#include "cpu_memory.h"
#include "fault_order.h"

namespace torchreel::faults {
namespace {

std::atomic<int64_t> live{0};

// Counts, and refuses on order, what it gets from libtorch's own allocator.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes > 0 && due("allocation")) {
      TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate ", bytes,
                  " bytes.");
    }
    auto block = std::make_unique<Block>(Block{base_->allocate(bytes), static_cast<int64_t>(bytes)});
    live += block->bytes;
    void* data = block->data.get();
    return {data, block.release(), release, at::kCPU};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  struct Block {
    c10::DataPtr data;
    int64_t bytes;
  };

  static void release(void* context) {
    std::unique_ptr<Block> block(static_cast<Block*>(context));
    live -= block->bytes;
  }

  c10::Allocator* base_ = c10::GetCPUAllocator();
};

}  // namespace

void watch_allocations() {
  static std::once_flag once;
  std::call_once(once, [] {
    PooledMemory below;  // so that the pool is what is counted
    c10::SetCPUAllocator(new CountingAllocator, /*priority=*/255);
  });
}

int64_t live_bytes() { return live; }

void point() {
  if (due("int")) throw 42;
  if (due("exception")) throw std::runtime_error("an ordered exception");
  if (due("bad_alloc")) throw std::bad_alloc();
  if (due("torch")) TORCH_CHECK(false, "an ordered failure of libtorch");
  if (due("device")) TORCH_CHECK(false, "CUDA error: an illegal memory access was encountered");
}

void spoil(at::Tensor& result) {
  if (due("nan")) result = at::full_like(result, NAN);
}

}  // namespace torchreel::faults

#endif
