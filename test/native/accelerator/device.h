// The two devices and what each thread knows of them.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <mutex>
#include <string>

#include "accelerator.h"
#include "clocks.h"

namespace accelerator {

constexpr auto type = c10::DeviceType::PrivateUse1;

// Guards all that the devices know: clocks, counters, blocks of memory. Kernels run without it.
std::mutex& mutex();

struct DeviceState {
  Counters counters;
  int64_t kernels_until_lost = 0, allocations_until_refused = 0;
  bool lost = false;
  size_t next_of_pool[2] = {0, 0};  // by priority
};
DeviceState& state(int device);

// What the work of a stream comes after, itself included.
Clock& stream_clock(size_t stream);

// Of this thread.
int current_device();
int exchange_device(int device);
c10::Stream current_stream(int device);
c10::Stream exchange_stream(const c10::Stream& stream);
// What this thread knows to be done. Threads that have ended are known to all.
Clock& thread_clock();

std::string stream_text(size_t stream);  // "stream 1 of standin:0"

// Takes no lock.
void violate(const std::string& what);

// Throws as CUDA does. The caller holds the mutex.
void check_not_lost(int device);

// This thread waits for a stream, or for all of a device; counted once. Throws for a lost device, or a stream
// that records.
void synchronize(const c10::Stream& stream);
void synchronize_device(int device);

}  // namespace accelerator
