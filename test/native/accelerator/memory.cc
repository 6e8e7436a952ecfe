#include "memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <sstream>

#include "recording.h"

namespace accelerator {
namespace {

constexpr size_t space = size_t{1} << 36;  // addresses of a device; pages are taken when they are touched
constexpr size_t smallest = 512;

constexpr size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Memory that went back to its stream while another one used it.
struct Pending {
  size_t owner, user;
  Tick tick;
  std::string text;
};

struct Space {
  Space() {
    int file = ::memfd_create("accelerator", MFD_CLOEXEC);
    TORCH_CHECK(file >= 0 && ::ftruncate(file, static_cast<off_t>(space)) == 0, "no memory for a device");
    auto map = [&](int protection) {
      void* memory = ::mmap(nullptr, space, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
      TORCH_CHECK(memory != MAP_FAILED, "no addresses for a device");
      return static_cast<char*>(memory);
    };
    closed = map(PROT_NONE);
    open = map(PROT_READ | PROT_WRITE);
    ::close(file);
    free.emplace(0, space);
  }

  char *closed, *open;
  std::map<size_t, size_t> free;  // offset to bytes
  std::map<size_t, Block*> blocks;
  int64_t limit = 0, allocated = 0, peak = 0, reserved = 0, reserved_peak = 0, refused = 0;
  std::array<int64_t, streams_of_device> allocated_on{}, cached{};
  std::vector<Pending> pending;

  void drop_cache() {
    for (int64_t& bytes : cached) reserved -= std::exchange(bytes, 0);
  }
};

Space& space_of(int device) {
  static auto* const spaces = new std::array<Space, device_count>;
  return spaces->at(static_cast<size_t>(device));
}

std::string mebibytes(int64_t bytes) {
  std::ostringstream out;
  out.precision(2);
  out << std::fixed << static_cast<double>(bytes) / (1 << 20) << " MiB";
  return out.str();
}

// The next to take memory on a stream may get what others still use.
void check_pending(Space& memory, size_t stream) {
  std::erase_if(memory.pending, [&](const Pending& use) {
    if (use.owner != stream) return false;
    Clock known = stream_clock(stream);
    known.join(thread_clock());
    if (!known.covers(use.user, use.tick)) violate(use.text);
    return true;
  });
}

void give_back(void* context) {
  std::unique_ptr<BlockPointer> owner(static_cast<BlockPointer*>(context));
  std::lock_guard lock(mutex());
  BlockPointer block = std::move(*owner);
  const Range& range = *block->range;
  Space& memory = space_of(range.device);
  memory.allocated -= static_cast<int64_t>(range.bytes);
  memory.allocated_on.at(range.stream % streams_of_device) -= static_cast<int64_t>(range.bytes);
  if (auto found = memory.blocks.find(range.offset);
      found != memory.blocks.end() && found->second == block.get())
    memory.blocks.erase(found);

  Clock known = stream_clock(range.stream);
  known.join(thread_clock());
  for (size_t user = 0; user < stream_count; ++user) {
    bool wrote = block->written_on == user && block->written > block->read[user];
    Tick tick = wrote ? block->written : block->read[user];
    if (user == range.stream || block->recorded.test(user) || known.covers(user, tick)) continue;
    memory.pending.push_back({range.stream, user, tick,
                              "memory of " + stream_text(range.stream) +
                                  " was given back and taken again while " +
                                  (wrote ? block->writer : block->readers[user]) + " still used it on " +
                                  stream_text(user) + ": " + block->text()});
  }
  recycle(block);
  block.reset();
}

// Has the current device's memory on its current stream.
class Allocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    int device = current_device();
    c10::Device named(type, static_cast<c10::DeviceIndex>(device));
    if (bytes == 0) return {nullptr, named};
    size_t stream = stream_number(current_stream(device));
    auto block = std::make_shared<Block>();
    {
      std::lock_guard lock(mutex());
      check_not_lost(device);
      ++state(device).counters.allocations;
      Space& memory = space_of(device);
      int64_t& left = state(device).allocations_until_refused;
      if (left > 0 && --left == 0) refuse(memory, device, static_cast<int64_t>(bytes));
      size_t size = rounded(bytes, smallest);
      block->range = recycled(stream, size);
      if (!block->range) block->range = std::make_shared<Range>(device, stream, size);
      keep_for_recording(stream, block);
      block->requested = bytes;
      // Until this stream has caught up with itself, what lay here before may still be in use.
      block->written_on = stream;
      block->written = stream_clock(stream).ticks[stream];
      memory.blocks[block->range->offset] = block.get();
      memory.allocated += static_cast<int64_t>(size);
      memory.allocated_on.at(stream % streams_of_device) += static_cast<int64_t>(size);
      memory.peak = std::max(memory.peak, memory.allocated);
    }
    size_t offset = block->range->offset;
    std::memset(space_of(device).open + offset, 0xff, bytes);  // not a number
    return {space_of(device).closed + offset, new BlockPointer(std::move(block)), give_back, named};
  }

  [[noreturn]] static void refuse(Space& memory, int device, int64_t bytes) {
    ++memory.refused;
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", mebibytes(bytes),
                     ". GPU ", device, " has a total capacity of ", mebibytes(memory.limit), " of which ",
                     mebibytes(std::max<int64_t>(0, memory.limit - memory.reserved)), " is free.");
    std::abort();
  }

  static c10::Allocator* instance() {
    static auto* const one = new Allocator;
    return one;
  }

  static BlockPointer block_of(const c10::DataPtr& data) {
    auto* block = data.cast_context<BlockPointer>(&give_back);
    return block ? *block : nullptr;
  }

  void copy_data(void*, const void*, size_t) const override {
    TORCH_CHECK(false, "the allocator of ", device_name, " copies nothing");
  }
  bool initialized() override { return true; }
  // The system takes memory back when nothing uses it any more.
  void emptyCache(c10::MempoolId_t) override {
    std::lock_guard lock(mutex());
    for (int device = 0; device < device_count; ++device) {
      space_of(device).drop_cache();
      space_of(device).pending.clear();
    }
  }
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    BlockPointer block = block_of(data);
    std::lock_guard lock(mutex());
    if (block) block->recorded.set(stream_number(stream));
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    std::lock_guard lock(mutex());
    const Space& memory = space_of(device);
    c10::CachingDeviceAllocator::DeviceStats statistics;
    auto& allocated = statistics.allocated_bytes[0];
    allocated.current = memory.allocated;
    allocated.peak = memory.peak;
    auto& reserved = statistics.reserved_bytes[0];
    reserved.current = memory.reserved;
    reserved.peak = memory.reserved_peak;
    statistics.num_ooms = memory.refused;
    return statistics;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex device) override {
    std::lock_guard lock(mutex());
    space_of(device).peak = space_of(device).allocated;
    space_of(device).reserved_peak = space_of(device).reserved;
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    std::lock_guard lock(mutex());
    const Space& memory = space_of(device);
    auto total = memory.limit ? static_cast<size_t>(memory.limit) : space;
    return {total - static_cast<size_t>(memory.reserved), total};
  }
};

[[gnu::used]] const bool allocates = [] {
  c10::SetAllocator(type, Allocator::instance());
  return true;
}();

}  // namespace

Range::Range(int device_, size_t stream_, size_t bytes_)
    : device(device_), stream(stream_), offset(0), bytes(bytes_) {
  Space& memory = space_of(device);
  check_pending(memory, stream);
  auto need = static_cast<int64_t>(bytes);
  int64_t& cached = memory.cached.at(stream % streams_of_device);
  if (memory.limit && memory.reserved - std::min(cached, need) + need > memory.limit) memory.drop_cache();
  int64_t more = need - std::min(cached, need);
  if (memory.limit && memory.reserved + more > memory.limit) Allocator::refuse(memory, device, need);
  size_t size = rounded(bytes, page);
  auto found = memory.free.begin();
  while (found != memory.free.end() && found->second < size) ++found;
  if (found == memory.free.end()) Allocator::refuse(memory, device, need);
  offset = found->first;
  if (size_t rest = found->second - size) memory.free.emplace_hint(found, offset + size, rest);
  memory.free.erase(offset);
  cached -= need - more;
  memory.reserved += more;
  memory.reserved_peak = std::max(memory.reserved_peak, memory.reserved);
}

Range::~Range() {
  Space& memory = space_of(device);
  memory.cached.at(stream % streams_of_device) += static_cast<int64_t>(bytes);
  auto place = memory.free.emplace(offset, rounded(bytes, page)).first;
  if (auto next = std::next(place);
      next != memory.free.end() && place->first + place->second == next->first) {
    place->second += next->second;
    memory.free.erase(next);
  }
  if (place == memory.free.begin()) return;
  if (auto before = std::prev(place); before->first + before->second == place->first) {
    before->second += place->second;
    memory.free.erase(place);
  }
}

std::string Block::text() const {
  return (shape.empty() ? std::to_string(requested) + " bytes" : shape) + " written by " + writer;
}

BlockPointer block_of(const at::Tensor& tensor) { return Allocator::block_of(tensor.storage().data_ptr()); }

at::Tensor opened(const at::Tensor& tensor) {
  auto options = at::TensorOptions(tensor.scalar_type());
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);
  const Space& memory = space_of(tensor.get_device());
  const char* closed = static_cast<const char*>(tensor.const_data_ptr());
  return at::from_blob(memory.open + (closed - memory.closed), tensor.sizes(), tensor.strides(), options);
}

bool is_device_memory(const void* address) {
  for (int device = 0; device < device_count; ++device) {
    const char* closed = space_of(device).closed;
    if (address >= closed && address < closed + space) return true;
  }
  return false;
}

std::string memory_text(const void* address) {
  for (int device = 0; device < device_count; ++device) {
    const Space& memory = space_of(device);
    if (address < memory.closed || address >= memory.closed + space) continue;
    auto offset = static_cast<size_t>(static_cast<const char*>(address) - memory.closed);
    std::string text = std::string("memory of ") + device_name + ":" + std::to_string(device);
    auto after = memory.blocks.upper_bound(offset);
    if (after == memory.blocks.begin()) return text + " that is no tensor's";
    const Block& block = *std::prev(after)->second;
    return text + (offset < std::prev(after)->first + block.requested ? ", " + block.text()
                                                                      : " that is no tensor's");
  }
  return "";
}

DeviceMemory memory(int device) {
  std::lock_guard lock(mutex());
  const Space& memory = space_of(device);
  return {memory.allocated,
          memory.peak,
          memory.reserved,
          {memory.allocated_on.begin(), memory.allocated_on.end()}};
}

void reset_peak() {
  for (int device = 0; device < device_count; ++device)
    c10::getDeviceAllocator(type)->resetPeakStats(static_cast<c10::DeviceIndex>(device));
}

void limit_memory(int device, int64_t bytes) {
  std::lock_guard lock(mutex());
  space_of(device).limit = bytes;
}

}  // namespace accelerator
