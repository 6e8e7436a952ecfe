// Leaving a process while a job runs.
#pragma once

namespace torchreel {

// Counts the calls that are inside libtorch.
class BusyScope {
 public:
  BusyScope();
  BusyScope(const BusyScope&) = delete;
  BusyScope& operator=(const BusyScope&) = delete;
  ~BusyScope();
};

// Exit handlers run last in, first out: registered when the exit is already decided, this one runs before
// libtorch's static destructors, and leaves without them while a job is busy. It keeps the exit status.
void leave_at_exit();

}  // namespace torchreel
