// A device for tests, "standin:0" and "standin:1": libtorch's PrivateUse1. It computes with the CPU's
// kernels, and is strict where a GPU is strict:
// - the host cannot touch its memory: tensors' addresses are those of protected pages;
// - an operation takes tensors of one device, and of the host those of one number at most;
// - streams run beside each other. What no event and no synchronization orders is a race;
// - memory that was given back belongs to its stream again, whatever other streams still do with it;
// - a copy from page-locked memory does not wait for the device, and the memory is locked until somebody
// does;
// - it has as much memory as `limit_memory` says.
// Work is done at once, when it is ordered; the order that a GPU would be bound to is kept in clocks. So a
// race does not depend on luck: it is a violation, seen each time, and the numbers are right all the same.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace accelerator {

constexpr int device_count = 2;
constexpr char device_name[] = "standin";

// What the program did that a GPU does not forgive, in words, since the last question. Nothing is thrown, so
// that it is seen wherever it happens. What a GPU refuses (devices that are mixed, memory that there is not,
// a device that was lost) is thrown as libtorch throws it for CUDA.
std::vector<std::string> violations();

// Of one device, since the last reset.
struct Counters {
  int64_t to_device = 0;         // bytes copied from the host
  int64_t to_host = 0;           // bytes copied to the host
  int64_t synchronizations = 0;  // times that a thread waited
  int64_t launches = 0;          // kernels, and whole recordings
  int64_t allocations = 0;
};
Counters counters(int device);
void reset_counters();

// Bytes of tensors on the device, as its allocator counts them.
struct DeviceMemory {
  int64_t allocated = 0, peak = 0;         // the peak is of the time since `reset_peak`
  int64_t reserved = 0;                    // with what was given back and is kept for the stream
  std::vector<int64_t> allocated_on = {};  // by the stream that the memory belongs to
};
DeviceMemory memory(int device);
void reset_peak();
// Page-locked bytes of the host.
int64_t pinned_bytes();

// 0: as much as it takes.
void limit_memory(int device, int64_t bytes);
// The n-th allocation from now on is refused, once; 0: none.
void refuse_allocation(int device, int64_t n);
// The n-th kernel from now on never ends: the next call of the device says so, and so do all after it; 0:
// none.
void lose_device(int device, int64_t n);
// All devices work again as in a new process, but for the memory of tensors that there still are: none is
// lost, none refuses anything, all work is done.
void restore();

// Work of the device that is noted and then repeated as a whole, at the addresses that it was noted with.
class Recording {
 public:
  Recording();
  ~Recording();
  // From now on, what the current stream of the current device is given is noted and not done. Memory that is
  // taken for it belongs to the recording. Waiting for the stream fails as it does on CUDA.
  void begin();
  void end();
  // Does it all again, on the current stream of its device. Memory of others that was given back meanwhile is
  // a violation.
  void replay();

  class State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace accelerator
