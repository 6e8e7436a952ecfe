#include "process/cpu_memory.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <set>

namespace torchreel {
namespace {

constexpr size_t smallest = size_t{1} << 16;  // bytes; malloc reuses smaller ones
constexpr size_t segment_size =
    size_t{1} << 28;  // bytes of address space; the system provides pages when they are written
constexpr size_t page = size_t{1} << 12, huge_page = size_t{1} << 21;

constexpr size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// The first page that begins at `address` or after it.
char* page_after(char* address) {
  return address + (page - reinterpret_cast<uintptr_t>(address) % page) % page;
}

// Segments of memory, each divided into blocks that are in use or free. A tensor gets the beginning of the
// smallest free block that is large enough. Neighbouring free blocks are merged.
class Pool {
 public:
  void enter() {
    std::lock_guard lock(mutex_);
    ++jobs_;
  }

  void leave() {
    std::lock_guard lock(mutex_);
    if (--jobs_ == 0) free_unused();
  }

  // Null if the system has no memory.
  void* allocate(size_t bytes) {
    // Not a multiple of the page: tensors that all begin at the same offset in a page compete for the same
    // lines of the cache.
    size_t size = rounded(bytes, 64) + 320;
    std::lock_guard lock(mutex_);
    auto found = free_.lower_bound({size, nullptr});
    if (found == free_.end()) {
      if (!add_segment(size)) return nullptr;
      found = free_.lower_bound({size, nullptr});
    }
    auto block = blocks_.find(found->second);
    free_.erase(found);
    block->second.free = false;
    if (block->second.size - size >= smallest) {
      char* rest = block->first + size;
      blocks_.emplace(rest, Block{block->second.size - size, block->second.segment, true});
      free_.emplace(block->second.size - size, rest);
      block->second.size = size;
    }
    return block->first;
  }

  // False for memory of another allocator.
  bool deallocate(void* memory) {
    std::lock_guard lock(mutex_);
    auto block = blocks_.find(static_cast<char*>(memory));
    if (block == blocks_.end()) return false;
    block->second.free = true;
    auto joins = [&](auto one, auto other) {
      return other != blocks_.end() && other->second.free && one->second.segment == other->second.segment;
    };
    if (auto next = std::next(block); joins(block, next)) {
      free_.erase({next->second.size, next->first});
      block->second.size += next->second.size;
      blocks_.erase(next);
    }
    if (block != blocks_.begin() && joins(block, std::prev(block))) {
      auto previous = std::prev(block);
      free_.erase({previous->second.size, previous->first});
      previous->second.size += block->second.size;
      blocks_.erase(block);
      block = previous;
    }
    free_.emplace(block->second.size, block->first);
    if (jobs_ == 0) free_unused();
    return true;
  }

  size_t held() {
    std::lock_guard lock(mutex_);
    size_t bytes = 0;
    for (const auto& [begin, size] : segments_) bytes += size;
    return bytes;
  }

 private:
  struct Block {
    size_t size;
    char* segment;
    bool free;
  };

  bool add_segment(size_t least) {
    for (size_t size : {rounded(least, segment_size), rounded(least, huge_page)}) {
      void* memory =
          ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) continue;
      ::madvise(memory, size, MADV_HUGEPAGE);  // a hint: small pages work as well
      char* begin = static_cast<char*>(memory);
      segments_.emplace(begin, size);
      blocks_.emplace(begin, Block{size, begin, true});
      free_.emplace(size, begin);
      return true;
    }
    return false;
  }

  // Frees segments without tensors, and the unused pages of the others.
  void free_unused() {
    for (auto segment = segments_.begin(); segment != segments_.end();) {
      auto [begin, size] = *segment;
      auto block = blocks_.find(begin);
      if (block->second.free && block->second.size == size) {
        free_.erase({size, begin});
        blocks_.erase(block);
        ::munmap(begin, size);
        segment = segments_.erase(segment);
      } else {
        for (; block != blocks_.end() && block->second.segment == begin; ++block) {
          if (!block->second.free) continue;
          char* first = page_after(block->first);
          char* last = page_after(block->first + block->second.size + 1 - page);
          if (first < last) ::madvise(first, static_cast<size_t>(last - first), MADV_DONTNEED);
        }
        ++segment;
      }
    }
  }

  std::mutex mutex_;
  int jobs_ = 0;
  std::map<char*, size_t> segments_;         // their sizes
  std::map<char*, Block> blocks_;            // of all segments, in order
  std::set<std::pair<size_t, char*>> free_;  // blocks by size
};

Pool& pool() {
  static auto* const pool = new Pool;  // never destroyed: tensors may be given back while the process exits
  return *pool;
}

thread_local int pooling = 0;  // PooledMemory of this thread

// Allocates from the pool or, outside of it, as the allocator that libtorch had.
class PoolAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = pooling > 0 && bytes >= smallest ? pool().allocate(bytes) : nullptr;
    if (!memory) return own_->allocate(bytes);  // which throws if there is no memory
    return {memory, memory, deallocate, at::Device(at::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return deallocate; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  static PoolAllocator& instance() {
    static auto* const allocator = new PoolAllocator;
    return *allocator;
  }

 private:
  PoolAllocator() : own_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }
  static void deallocate(void* memory) {
    if (!pool().deallocate(memory)) instance().own_->raw_deallocate(memory);
  }

  c10::Allocator* own_;
};

}  // namespace

PooledMemory::PooledMemory() {
  PoolAllocator::instance();
  pool().enter();
  ++pooling;
}

PooledMemory::~PooledMemory() {
  --pooling;
  pool().leave();
}

size_t PooledMemory::held() { return pool().held(); }

}  // namespace torchreel
