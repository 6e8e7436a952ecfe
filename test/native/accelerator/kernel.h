// One piece of work for a stream: a kernel or a copy.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include <functional>
#include <vector>

#include "memory.h"

namespace accelerator {

struct Operand {
  std::weak_ptr<Block> block;
  bool written;
};

class Kernel {
 public:
  enum class Kind { kernel, copy };

  // On the current stream of `device`, after all that this thread knows to be done. Throws for a lost device.
  Kernel(const char* name, c10::Device device, Kind kind = Kind::kernel);

  // What of the device it reads and writes. A race is a violation.
  void reads(const at::Tensor& tensor) { uses(tensor, false); }
  void writes(const at::Tensor& tensor) { uses(tensor, true); }

  // Whether it is noted in place of being done.
  bool is_recorded() const { return recorded_; }

  // Does it; called once, after what it uses was said. `work` must hold no memory of the device.
  void run(std::function<void()> work);

  const c10::Stream& stream() const { return stream_; }
  Tick tick() const { return tick_; }

 private:
  void uses(const at::Tensor& tensor, bool written);

  const char* name_;
  c10::DeviceGuard guard_;
  c10::Stream stream_;
  Tick tick_ = 0;
  bool recorded_ = false;
  std::vector<Operand> operands_;
};

// Orders a use by a stream's latest work after the uses before it. The caller holds the mutex.
void order(const char* name, size_t stream, Block& block, bool written);

// A piece of work begins on the current stream, after all that this thread knows: its tick. The caller holds
// the mutex.
Tick begin_work(const c10::Stream& stream, bool counted);

// What this thread computes now, or null.
const char* running_kernel();

}  // namespace accelerator
