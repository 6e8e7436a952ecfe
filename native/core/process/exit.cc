#include "process/exit.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace torchreel {
namespace {

std::atomic<int> busy_calls{0};
std::atomic<bool> leaving{false};

void leave(int status, void*) {
  leaving = true;
  if (busy_calls > 0) ::_exit(status);
}

}  // namespace

BusyScope::BusyScope() {
  ++busy_calls;
  while (leaving) ::pause();  // libtorch is being torn down: this thread ends with the process
}
BusyScope::~BusyScope() { --busy_calls; }

void leave_at_exit() { ::on_exit(leave, nullptr); }

}  // namespace torchreel
