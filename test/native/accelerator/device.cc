#include "device.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>

#include "memory.h"
#include "pinned_memory.h"
#include "protection.h"
#include "recording.h"

namespace accelerator {
namespace {

constexpr size_t max_violations = 50;

// Never destroyed: tensors may be given back while the process exits.
struct Machine {
  std::mutex mutex, violations_mutex;
  std::array<DeviceState, device_count> devices;
  std::array<Clock, stream_count> streams;
  Clock ended;  // what threads knew that have ended
  std::vector<std::string> violations;
};

Machine& machine() {
  static auto* const one = new Machine;
  return *one;
}

struct Thread {
  int device = 0;
  std::array<c10::StreamId, device_count> streams{};
  Clock clock;
  ~Thread() {
    std::lock_guard lock(machine().mutex);
    machine().ended.join(clock);
  }
};

Thread& thread() {
  static thread_local Thread one;
  return one;
}

c10::Device named(int device) { return {type, static_cast<c10::DeviceIndex>(device)}; }

}  // namespace

std::mutex& mutex() { return machine().mutex; }
DeviceState& state(int device) { return machine().devices.at(static_cast<size_t>(device)); }
Clock& stream_clock(size_t stream) { return machine().streams.at(stream); }

int current_device() { return thread().device; }
int exchange_device(int device) {
  TORCH_CHECK(device >= 0 && device < device_count, "CUDA error: invalid device ordinal");
  return std::exchange(thread().device, device);
}

c10::Stream current_stream(int device) {
  return c10::Stream(c10::Stream::UNSAFE, named(device), thread().streams.at(static_cast<size_t>(device)));
}
c10::Stream exchange_stream(const c10::Stream& stream) {
  c10::Stream before = current_stream(stream.device_index());
  thread().streams.at(static_cast<size_t>(stream.device_index())) = stream.id();
  return before;
}

Clock& thread_clock() {
  thread().clock.join(machine().ended);
  return thread().clock;
}

std::string stream_text(size_t stream) {
  return "stream " + std::to_string(stream % streams_of_device) + " of " + device_name + ":" +
         std::to_string(stream / streams_of_device);
}

void violate(const std::string& what) {
  std::lock_guard lock(machine().violations_mutex);
  std::vector<std::string>& all = machine().violations;
  if (all.size() < max_violations && std::find(all.begin(), all.end(), what) == all.end())
    all.push_back(what);
}

std::vector<std::string> violations() {
  report_touched_memory();
  std::lock_guard lock(machine().violations_mutex);
  return std::exchange(machine().violations, {});
}

void check_not_lost(int device) {
  TORCH_CHECK(!state(device).lost,
              "CUDA error: an illegal memory access was encountered\n"
              "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace "
              "below might be incorrect.");
}

void synchronize(const c10::Stream& stream) {
  std::lock_guard lock(mutex());
  check_not_lost(stream.device_index());
  TORCH_CHECK(!recording_on(stream_number(stream)),
              "CUDA error: operation not permitted when stream is capturing");
  ++state(stream.device_index()).counters.synchronizations;
  thread_clock().join(stream_clock(stream_number(stream)));
  unlock_pinned_memory(thread_clock());
}

void synchronize_device(int device) {
  std::lock_guard lock(mutex());
  check_not_lost(device);
  ++state(device).counters.synchronizations;
  for (size_t stream = 0; stream < streams_of_device; ++stream) {
    size_t number = static_cast<size_t>(device) * streams_of_device + stream;
    TORCH_CHECK(!recording_on(number), "CUDA error: operation not permitted when stream is capturing");
    thread_clock().join(stream_clock(number));
  }
  unlock_pinned_memory(thread_clock());
}

Counters counters(int device) {
  std::lock_guard lock(mutex());
  return state(device).counters;
}

void reset_counters() {
  std::lock_guard lock(mutex());
  for (int device = 0; device < device_count; ++device) state(device).counters = {};
}

void refuse_allocation(int device, int64_t n) {
  std::lock_guard lock(mutex());
  state(device).allocations_until_refused = n;
}

void lose_device(int device, int64_t n) {
  std::lock_guard lock(mutex());
  state(device).kernels_until_lost = n;
}

void restore() {
  for (int device = 0; device < device_count; ++device) {
    limit_memory(device, 0);
    {
      std::lock_guard lock(mutex());
      state(device).lost = false;
      state(device).kernels_until_lost = state(device).allocations_until_refused = 0;
    }
    synchronize_device(device);
  }
  c10::getDeviceAllocator(type)->emptyCache();
}

}  // namespace accelerator
