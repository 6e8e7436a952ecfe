// Streams that record. The caller holds the mutex.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "accelerator.h"
#include "kernel.h"

namespace accelerator {

struct Noted {
  const char* name;
  std::vector<Operand> operands;
  std::function<void()> work;
};

class Recording::State {
 public:
  ~State();
  size_t stream = 0;
  bool open = false;
  std::vector<Noted> work;
  std::vector<BlockPointer> blocks;            // taken for it
  std::vector<std::shared_ptr<Range>> unused;  // of theirs, what can be taken again
};

// Null: the stream records nothing.
Recording::State* recording_on(size_t stream);
void note(size_t stream, Noted work);

// Memory for a recording comes from what it has, and stays its own.
std::shared_ptr<Range> recycled(size_t stream, size_t bytes);  // null: none
void keep_for_recording(size_t stream, const BlockPointer& block);
void recycle(const BlockPointer& block);

}  // namespace accelerator
