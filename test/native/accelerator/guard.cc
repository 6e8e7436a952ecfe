// What libtorch asks of a device: which is current, streams, events, page-locked memory.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

#include "device.h"
#include "memory.h"
#include "pinned_memory.h"
#include "recording.h"

namespace accelerator {
namespace {

struct Event {
  Clock clock;
};

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return accelerator::type; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return named(exchange_device(device.index()));
  }
  c10::Device getDevice() const override { return named(current_device()); }
  void setDevice(c10::Device device) const override { exchange_device(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { exchange_device(device.index()); }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count; }

  c10::Stream getStream(c10::Device device) const override { return current_stream(index(device)); }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, named(index(device)));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool high_priority) const override {
    std::lock_guard lock(mutex());
    size_t next = state(index(device)).next_of_pool[high_priority]++ % pool_streams;
    auto id = static_cast<c10::StreamId>(1 + next + (high_priority ? pool_streams : 0));
    return c10::Stream(c10::Stream::UNSAFE, named(index(device)), id);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return exchange_stream(stream); }
  bool queryStream(const c10::Stream& stream) const override {  // what was ordered is done
    std::lock_guard lock(mutex());
    thread_clock().join(stream_clock(stream_number(stream)));
    return true;
  }
  void synchronizeStream(const c10::Stream& stream) const override { synchronize(stream); }
  void synchronizeDevice(const c10::DeviceIndex device) const override { synchronize_device(device); }
  bool isStreamCapturing(const c10::Stream& stream) const override {
    std::lock_guard lock(mutex());
    return recording_on(stream_number(stream)) != nullptr;
  }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex device,
              const c10::EventFlag) const override {
    TORCH_CHECK(device == -1 || device == stream.device_index(), "Event device index ",
                static_cast<int>(device), " does not match recording stream's device index ",
                static_cast<int>(stream.device_index()), ".");
    std::lock_guard lock(mutex());
    check_not_lost(stream.device_index());
    if (!*event) *event = new Event;
    Clock& clock = stream_clock(stream_number(stream));
    clock.join(thread_clock());
    static_cast<Event*>(*event)->clock = clock;
  }
  void block(void* event, const c10::Stream& stream) const override {
    std::lock_guard lock(mutex());
    check_not_lost(stream.device_index());
    if (event) stream_clock(stream_number(stream)).join(static_cast<Event*>(event)->clock);
  }
  bool queryEvent(void* event) const override {
    std::lock_guard lock(mutex());
    if (event) thread_clock().join(static_cast<Event*>(event)->clock);
    return true;
  }
  void synchronizeEvent(void* event) const override {
    if (!event) return;
    std::lock_guard lock(mutex());
    ++state(current_device()).counters.synchronizations;
    thread_clock().join(static_cast<Event*>(event)->clock);
    unlock_pinned_memory(thread_clock());
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }

  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    c10::getDeviceAllocator(accelerator::type)->recordStream(data, stream);
  }

 private:
  static c10::Device named(int device) { return {accelerator::type, static_cast<c10::DeviceIndex>(device)}; }
  static int index(c10::Device device) { return device.has_index() ? device.index() : current_device(); }
};

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return device_count; }
  void setCurrentDevice(c10::DeviceIndex device) const override { exchange_device(device); }
  c10::DeviceIndex getCurrentDevice() const override {
    return static_cast<c10::DeviceIndex>(current_device());
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return static_cast<c10::DeviceIndex>(exchange_device(device));
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  bool isPinnedPtr(const void* address) const override { return is_pinned(address); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return pinned_allocator(); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

[[gnu::used]] const bool registered = [] {
  c10::register_privateuse1_backend(device_name);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();

}  // namespace
}  // namespace accelerator
