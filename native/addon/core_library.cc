#include "core_library.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <mutex>
#include <stdexcept>

namespace {

struct OpenedCore {
  std::mutex mutex;
  std::vector<std::string> files;  // libtorch's, then the core
  const torchreel_core* table = nullptr;
};

// Shared by all environments of the process and never destroyed. The libraries stay open, since job threads
// run their code.
OpenedCore& opened() {
  static auto* const core = new OpenedCore;
  return *core;
}

void* open_library(const std::string& path) {
  if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) return library;
  throw std::runtime_error(::dlerror());
}

}  // namespace

const torchreel_core& open_core(const std::vector<std::string>& libraries, const std::string& core) {
  OpenedCore& state = opened();
  std::lock_guard lock(state.mutex);
  std::vector<std::string> files = libraries;
  files.push_back(core);
  if (state.table) {
    if (state.files == files) return *state.table;
    throw std::runtime_error("this process has already loaded " + state.files.front());
  }
  // How often a waiting thread of OpenMP polls before it sleeps; libgomp reads this when it is loaded. Its
  // default starves JavaScript's thread and, beside other work, libtorch itself. Sleeping at once doubles the
  // time of small networks. The user's own settings win.
  if (!::getenv("OMP_WAIT_POLICY")) ::setenv("GOMP_SPINCOUNT", "3000", /*overwrite=*/0);
  for (const std::string& library : libraries) open_library(library);
  auto table =
      reinterpret_cast<const torchreel_core* (*)()>(::dlsym(open_library(core), "torchreel_core_table"));
  if (!table) throw std::runtime_error(core + " is not a torchreel core");
  if (table()->abi != TORCHREEL_CORE_ABI) {
    throw std::runtime_error(core + " was not built together with this addon: rebuild or reinstall both");
  }
  state.table = table();
  state.files = std::move(files);
  return *state.table;
}

const torchreel_core& opened_core() {
  OpenedCore& state = opened();
  std::lock_guard lock(state.mutex);
  if (!state.table) throw std::runtime_error("the core is not loaded yet");
  return *state.table;
}
