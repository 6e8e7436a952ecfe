#include "protection.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "device.h"
#include "kernel.h"
#include "memory.h"
#include "pinned_memory.h"

namespace accelerator {
namespace {

struct Touch {
  void* address;
  const char* during;
  bool write, device;
};

// A handler of signals may take no lock and no memory.
std::array<Touch, 64> touches;
std::atomic<size_t> touched{0}, taken{0};

// Page-locked blocks, as the handler can read them.
std::array<std::atomic<uintptr_t>, 8192> begins, ends;

struct sigaction before;

bool is_watched(uintptr_t address) {
  for (size_t i = 0; i < begins.size(); ++i) {
    if (address >= begins[i] && address < ends[i]) return true;
  }
  return false;
}

void on_fault(int signal, siginfo_t* information, void* context) {
  void* address = information->si_addr;
  bool device = is_device_memory(address);
  if (device || is_watched(reinterpret_cast<uintptr_t>(address))) {
    bool write = true;
#ifdef REG_ERR
    write = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2;
#endif
    size_t index = taken++;
    if (index < touches.size()) {
      touches[index] = {address, running_kernel(), write, device};
      ++touched;
    }
    auto start = reinterpret_cast<uintptr_t>(address) / page * page;
    if (::mprotect(reinterpret_cast<void*>(start), page, PROT_READ | PROT_WRITE) == 0) return;
  }
  ::sigaction(SIGSEGV, &before, nullptr);  // not ours: what was there before is asked again
  (void)signal;
  (void)context;
}

[[gnu::used]] const bool installed = [] {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, &before);
  return true;
}();

}  // namespace

void watch(const void* memory, size_t bytes, bool on) {
  auto start = reinterpret_cast<uintptr_t>(memory);
  for (size_t i = 0; i < begins.size(); ++i) {
    if (on ? begins[i] != 0 : begins[i] != start) continue;
    ends[i] = on ? start + bytes : 0;
    begins[i] = on ? start : 0;
    return;
  }
}

void report_touched_memory() {
  std::lock_guard lock(mutex());
  size_t count = touched.exchange(0);
  taken = 0;
  for (size_t i = 0; i < count; ++i) {
    const Touch& touch = touches.at(i);
    std::string where = touch.device ? memory_text(touch.address) : pinned_memory_text(touch.address);
    if (where.empty()) where = "page-locked memory that a copy still used";  // which is gone by now
    violate(std::string("the host ") + (touch.write ? "wrote to " : "read from ") + where +
            (touch.during ? std::string(", during ") + touch.during : ""));
    auto start = reinterpret_cast<uintptr_t>(touch.address) / page * page;
    if (touch.device) ::mprotect(reinterpret_cast<void*>(start), page, PROT_NONE);
  }
}

}  // namespace accelerator
