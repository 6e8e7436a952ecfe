#include "kernel.h"

#include <sstream>

#include "recording.h"

namespace accelerator {
namespace {

thread_local const char* running = nullptr;

std::string shape_text(const at::Tensor& tensor) {
  std::ostringstream out;
  out << tensor.scalar_type() << ' ' << tensor.sizes();
  return out.str();
}

std::string race(const char* name, size_t stream, const Block& block, bool written, const char* other,
                 bool other_wrote, size_t other_stream) {
  return std::string("a race: ") + name + " on " + stream_text(stream) + (written ? " writes " : " reads ") +
         block.text() + ", which " + other + (other_wrote ? " wrote" : " read") + " on " +
         stream_text(other_stream) + ": nothing orders the two";
}

}  // namespace

const char* running_kernel() { return running; }

Tick begin_work(const c10::Stream& stream, bool counted) {
  int device = stream.device_index();
  check_not_lost(device);
  if (counted) {
    ++state(device).counters.launches;
    int64_t& left = state(device).kernels_until_lost;
    if (left > 0 && --left == 0) state(device).lost = true;
  }
  Clock& clock = stream_clock(stream_number(stream));
  clock.join(thread_clock());
  return ++clock.ticks[stream_number(stream)];
}

void order(const char* name, size_t stream, Block& block, bool written) {
  const Clock& clock = stream_clock(stream);
  if (!clock.covers(block.written_on, block.written))
    violate(race(name, stream, block, written, block.writer, true, block.written_on));
  if (written) {
    for (size_t other = 0; other < stream_count; ++other) {
      if (!clock.covers(other, block.read[other]))
        violate(race(name, stream, block, written, block.readers[other], false, other));
    }
    block.writer = name;
    block.written_on = stream;
    block.written = clock.ticks[stream];
  } else {
    block.read[stream] = clock.ticks[stream];
    block.readers[stream] = name;
  }
}

Kernel::Kernel(const char* name, c10::Device device, Kind kind)
    : name_(name), guard_(device), stream_(current_stream(device.index())) {
  std::lock_guard lock(mutex());
  recorded_ = recording_on(stream_number(stream_)) != nullptr;
  if (recorded_)
    check_not_lost(device.index());
  else
    tick_ = begin_work(stream_, kind == Kind::kernel);
}

void Kernel::uses(const at::Tensor& tensor, bool written) {
  BlockPointer block = block_of(tensor);
  if (!block) return;
  TORCH_INTERNAL_ASSERT(tensor.get_device() == stream_.device_index());
  std::lock_guard lock(mutex());
  if (written) block->shape = shape_text(tensor);
  if (recorded_)
    operands_.push_back({block, written});
  else
    order(name_, stream_number(stream_), *block, written);
}

void Kernel::run(std::function<void()> work) {
  if (recorded_) {
    std::lock_guard lock(mutex());
    note(stream_number(stream_), {name_, std::move(operands_), std::move(work)});
    return;
  }
  const char* outer = std::exchange(running, name_);
  struct Restore {
    const char* outer;
    ~Restore() { running = outer; }
  } restore{outer};
  work();
}

}  // namespace accelerator
