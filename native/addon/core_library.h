// Opens libtorch and the core, once per process. The addon itself links neither.
#pragma once

#include <string>
#include <vector>

#include "torchreel_core.h"

// Sets what libraries read from the environment when they are opened. JavaScript thread: Node.js reads the
// environment there.
void prepare_environment();

// Opens `libraries` (absolute paths, in order) and then `core`. Throws std::runtime_error with the loader's
// own words. A second call with the same core is a no-op; another core is refused, since one process holds
// one libtorch. Any thread; takes a fifth of a second.
const torchreel_core& open_core(const std::vector<std::string>& libraries, const std::string& core);

// To be called in the process's exit, on its thread: the core's own leave_at_exit. While the core is still
// being opened, by a thread that the exit waits for, the process leaves without libtorch's static
// destructors.
void leave_at_exit();

// The opened core. Throws std::runtime_error before open_core.
const torchreel_core& opened_core();
