#include "pinned_memory.h"

#include <sys/mman.h>

#include <map>

#include "accelerator.h"
#include "device.h"
#include "protection.h"

namespace accelerator {
namespace {

struct Pinned {
  size_t bytes;
  bool locked = false, written = false;
  Clock uses;
};

struct Host {
  std::map<char*, Pinned> blocks;  // by address; the mutex guards it
  int64_t bytes = 0;
  size_t locked = 0;
};

Host& host() {
  static auto* const one = new Host;
  return *one;
}

std::map<char*, Pinned>::iterator find(const void* address) {
  auto& blocks = host().blocks;
  auto found = blocks.upper_bound(static_cast<char*>(const_cast<void*>(address)));
  if (found == blocks.begin()) return blocks.end();
  --found;
  return address < found->first + found->second.bytes ? found : blocks.end();
}

void unlock(void* memory) {
  std::lock_guard lock(mutex());
  auto found = find(memory);
  if (found == host().blocks.end()) return;
  host().bytes -= static_cast<int64_t>(found->second.bytes);
  if (found->second.locked) --host().locked;
  watch(memory, found->second.bytes, false);
  ::munmap(memory, found->second.bytes);
  host().blocks.erase(found);
}

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(c10::kCPU)};
    size_t size = (bytes + page - 1) / page * page;
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK_WITH(OutOfMemoryError, memory != MAP_FAILED, "CUDA error: out of memory");
    std::lock_guard lock(mutex());
    host().blocks.emplace(static_cast<char*>(memory), Pinned{size, false, false, {}});
    host().bytes += static_cast<int64_t>(size);
    watch(memory, size, true);
    return {memory, memory, unlock, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return unlock; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

c10::Allocator* pinned_allocator() {
  static auto* const one = new PinnedAllocator;
  return one;
}

bool is_pinned(const void* address) {
  std::lock_guard lock(mutex());
  return find(address) != host().blocks.end();
}

void lock_pinned_memory(const void* address, bool written, size_t stream, Tick tick) {
  auto found = find(address);
  if (found == host().blocks.end()) return;
  Pinned& block = found->second;
  host().locked += block.locked ? 0 : 1;
  block.locked = true;
  block.written = block.written || written;
  block.uses.ticks[stream] = std::max(block.uses.ticks[stream], tick);
  ::mprotect(found->first, block.bytes, block.written ? PROT_NONE : PROT_READ);
}

void unlock_pinned_memory(const Clock& known) {
  if (host().locked == 0) return;
  for (auto& [memory, block] : host().blocks) {
    if (!block.locked) continue;
    bool done = true;
    for (size_t stream = 0; stream < stream_count; ++stream)
      done = done && known.covers(stream, block.uses.ticks[stream]);
    if (!done) continue;
    block.locked = block.written = false;
    --host().locked;
    ::mprotect(memory, block.bytes, PROT_READ | PROT_WRITE);
  }
}

std::string pinned_memory_text(const void* address) {
  auto found = find(address);
  if (found == host().blocks.end()) return "";
  return "page-locked memory that a copy " + std::string(found->second.written ? "writes" : "reads");
}

int64_t pinned_bytes() {
  std::lock_guard lock(mutex());
  return host().bytes;
}

}  // namespace accelerator
