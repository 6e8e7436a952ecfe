// Memory of tensors on the CPU. malloc maps, clears and unmaps the memory of every large tensor, with a page
// fault for each page, and a job makes tens of thousands of large tensors. This pool keeps their memory for
// as long as a job runs.
#pragma once

#include <cstddef>

namespace torchreel {

// While one of these lives, the large tensors of its thread come from the pool, which all such threads share.
// When the last one ends, the pool frees its memory, except for tensors that are still in use. All small
// tensors, and the tensors of all other threads, come from libtorch's own allocator.
class PooledMemory {
 public:
  PooledMemory();
  ~PooledMemory();

  PooledMemory(const PooledMemory&) = delete;
  PooledMemory& operator=(const PooledMemory&) = delete;

  // Bytes of address space that the pool has. The system provides a page when it is first written.
  static size_t held();
};

}  // namespace torchreel
