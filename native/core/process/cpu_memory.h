// Memory of tensors on the CPU. Malloc maps, clears and unmaps every large tensor anew, and each of its pages
// is a fault; a job takes tens of thousands of large tensors. Here they come from memory that stays with the
// process for as long as a job runs.
#pragma once

#include <cstddef>

namespace torchreel {

// While one of these lives, large tensors that its thread makes are parts of a pool, of all threads that have
// one. With the last one the pool gives back its memory, less what holds tensors that are still in use. Other
// threads' tensors, whoever's they are, come from libtorch's own allocator, as all small ones do.
class PooledMemory {
 public:
  PooledMemory();
  ~PooledMemory();

  PooledMemory(const PooledMemory&) = delete;
  PooledMemory& operator=(const PooledMemory&) = delete;

  // Bytes of addresses that the pool has of the system; a page of them is taken when it is first written.
  static size_t held();
};

}  // namespace torchreel
