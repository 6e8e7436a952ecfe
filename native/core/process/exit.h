// Exit of the process while a job runs.
#pragma once

namespace torchreel {

// Marks a call that is inside libtorch.
class BusyScope {
 public:
  BusyScope();
  BusyScope(const BusyScope&) = delete;
  BusyScope& operator=(const BusyScope&) = delete;
  ~BusyScope();
};

// Registers an exit handler. Handlers run in reverse order, so one that is registered during the exit runs
// before libtorch's static destructors. If a job is busy, it ends the process at once, without those, with
// the exit status.
void leave_at_exit();

}  // namespace torchreel
