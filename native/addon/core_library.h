// Opens libtorch and the core, once per process. The addon itself links neither.
#pragma once

#include <string>
#include <vector>

#include "torchreel_core.h"

// Opens `libraries` (absolute paths, in order) and then `core`. Throws std::runtime_error with the loader's
// message. A second call with the same core does nothing; another core is refused, since a process can have
// only one libtorch.
const torchreel_core& open_core(const std::vector<std::string>& libraries, const std::string& core);

// The opened core. Throws std::runtime_error before open_core.
const torchreel_core& opened_core();
