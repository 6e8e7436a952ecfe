// What the host touches that it may not is noted, and let be: the page is opened, and the program goes on.
#pragma once

#include <cstddef>

namespace accelerator {

// Pages whose faults are noted, beside those of the devices' memory.
void watch(const void* memory, size_t bytes, bool on);

// Makes violations of what was touched since the last time, and closes the pages again.
void report_touched_memory();

}  // namespace accelerator
