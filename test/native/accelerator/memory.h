// Memory of the devices. Each has one file of memory that is mapped twice: at the addresses that tensors
// have, where nothing may be read or written, and at others that only kernels and copies know.
#pragma once

#include <ATen/core/Tensor.h>

#include <bitset>
#include <memory>
#include <string>

#include "clocks.h"
#include "device.h"

namespace accelerator {

constexpr size_t page = 4096;  // bytes that are protected together

inline bool is_on_device(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == type;
}

// Part of a device's memory; goes back when the last block, or recording, lets it go.
struct Range {
  Range(int device, size_t stream, size_t bytes);  // throws c10::OutOfMemoryError
  ~Range();
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

  int device;
  size_t stream, offset, bytes;
};

// What one tensor's storage lies in, and who used it last. The mutex guards it.
struct Block {
  std::shared_ptr<Range> range;
  size_t requested = 0;
  const char* writer = "another tensor that had its memory";
  size_t written_on = 0;  // stream
  Tick written = 0;
  std::array<Tick, stream_count> read{};
  std::array<const char*, stream_count> readers{};
  std::bitset<stream_count> recorded;  // streams that record_stream named
  std::string shape;                   // of the tensor that was written

  std::string text() const;
};
using BlockPointer = std::shared_ptr<Block>;

// Null for a tensor of no bytes.
BlockPointer block_of(const at::Tensor& tensor);

// The same tensor for a kernel: on the CPU, at the address that can be read and written. Holds no memory.
at::Tensor opened(const at::Tensor& tensor);

// Where `address` lies in a device's memory, in words; empty if it does not. The caller holds the mutex.
std::string memory_text(const void* address);
// Whether it does; takes no lock.
bool is_device_memory(const void* address);

}  // namespace accelerator
