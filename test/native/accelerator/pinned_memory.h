// Page-locked memory of the host. While a copy from it or to it may still be under way, its pages say so.
#pragma once

#include <c10/core/Allocator.h>

#include <string>

#include "clocks.h"

namespace accelerator {

c10::Allocator* pinned_allocator();
bool is_pinned(const void* address);  // takes the mutex

// A copy that nobody waits for reads or writes there. The caller holds the mutex, here and below.
void lock_pinned_memory(const void* address, bool written, size_t stream, Tick tick);
// Gives back to the host what is known to be done.
void unlock_pinned_memory(const Clock& known);
std::string pinned_memory_text(const void* address);  // empty: it is not there

}  // namespace accelerator
