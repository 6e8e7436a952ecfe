#ifdef TORCHREEL_FAULTS

#include "process/faults.h"

#include <ATen/ops/full_like.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <new>
#include <stdexcept>
#include <unordered_map>

#include "process/cpu_memory.h"
#include "process/fault_order.h"

namespace torchreel::faults {
namespace {

std::atomic<int64_t> live{0};

// Counts the memory of libtorch's own allocator, and refuses it on order. As there, the data pointer is its
// own context, since libtorch's kernels get scratch memory by raw_allocate.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes > 0 && due("allocation")) {
      TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate ", bytes,
                  " bytes.");
    }
    void* data = base()->raw_allocate(bytes);
    std::lock_guard lock(mutex);
    if (data) sizes()[data] = static_cast<int64_t>(bytes);
    live += static_cast<int64_t>(bytes);
    return {data, data, release, at::kCPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return release; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  static c10::Allocator* base() {
    static auto* const one = c10::GetCPUAllocator();
    return one;
  }

 private:
  // Also frees memory that was allocated before this allocator was set.
  static void release(void* data) {
    {
      std::lock_guard lock(mutex);
      if (auto known = sizes().find(data); known != sizes().end()) {
        live -= known->second;
        sizes().erase(known);
      }
    }
    base()->raw_deallocate(data);
  }

  static std::unordered_map<void*, int64_t>& sizes() {
    static auto* const one = new std::unordered_map<void*, int64_t>;
    return *one;
  }

  static inline std::mutex mutex;
};

}  // namespace

void watch_allocations() {
  static std::once_flag once;
  std::call_once(once, [] {
    PooledMemory below;  // installs the pool's allocator first, so that its memory is counted, too
    CountingAllocator::base();
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
