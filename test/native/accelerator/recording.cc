#include "recording.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>

namespace accelerator {
namespace {

std::array<Recording::State*, stream_count> recordings{};  // the mutex guards it

}  // namespace

Recording::State* recording_on(size_t stream) { return recordings.at(stream); }

void note(size_t stream, Noted work) { recordings.at(stream)->work.push_back(std::move(work)); }

std::shared_ptr<Range> recycled(size_t stream, size_t bytes) {
  Recording::State* recording = recording_on(stream);
  if (!recording) return nullptr;
  auto found = std::ranges::find(recording->unused, bytes, [](const auto& range) { return range->bytes; });
  if (found == recording->unused.end()) return nullptr;
  std::shared_ptr<Range> range = std::move(*found);
  recording->unused.erase(found);
  return range;
}

void keep_for_recording(size_t stream, const BlockPointer& block) {
  if (Recording::State* recording = recording_on(stream)) recording->blocks.push_back(block);
}

void recycle(const BlockPointer& block) {
  Recording::State* recording = recording_on(block->range->stream);
  if (recording && std::ranges::find(recording->blocks, block) != recording->blocks.end())
    recording->unused.push_back(block->range);
}

Recording::State::~State() {
  std::lock_guard lock(mutex());
  if (open) recordings.at(stream) = nullptr;
  unused.clear();
  blocks.clear();
}

Recording::Recording() : state_(std::make_shared<State>()) {}
Recording::~Recording() = default;

void Recording::begin() {
  c10::Stream stream = current_stream(current_device());
  TORCH_CHECK(stream.id() != 0, "CUDA graphs must be captured on a non-default stream.");
  std::lock_guard lock(mutex());
  check_not_lost(stream.device_index());
  TORCH_CHECK(!recording_on(stream_number(stream)),
              "CUDA error: operation not permitted when stream is capturing");
  state_->stream = stream_number(stream);
  state_->open = true;
  recordings.at(state_->stream) = state_.get();
}

void Recording::end() {
  std::lock_guard lock(mutex());
  TORCH_CHECK(state_->open, "CUDA error: operation would result in a merge of separate capture sequences");
  state_->open = false;
  recordings.at(state_->stream) = nullptr;
  state_->unused.clear();
}

void Recording::replay() {
  c10::Stream stream = current_stream(static_cast<int>(state_->stream / streams_of_device));
  {
    std::lock_guard lock(mutex());
    TORCH_CHECK(!recording_on(stream_number(stream)),
                "CUDA error: operation not permitted when stream is capturing");
    begin_work(stream, true);
    for (const Noted& noted : state_->work) {
      for (const Operand& operand : noted.operands) {
        BlockPointer block = operand.block.lock();
        if (block)
          order(noted.name, stream_number(stream), *block, operand.written);
        else
          violate(std::string("a recorded ") + noted.name + (operand.written ? " writes" : " reads") +
                  " memory that was given back");
      }
    }
  }
  for (const Noted& noted : state_->work) noted.work();
}

}  // namespace accelerator
