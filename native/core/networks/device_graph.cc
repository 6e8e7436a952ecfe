#include "networks/device_graph.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include "process/error.h"

namespace torchreel {
namespace {

std::mutex mutex;

std::map<at::DeviceType, MakeDeviceGraph>& graph_makers() {
  static auto* const makers = new std::map<at::DeviceType, MakeDeviceGraph>;
  return *makers;
}

MakeDeviceGraph open_cuda_graphs() {
  Dl_info core{};
  ::dladdr(reinterpret_cast<void*>(&device_graphs), &core);
  std::string library = std::filesystem::path(core.dli_fname)
                            .replace_filename("torchreel_cuda-" TORCHREEL_LIBTORCH_MINOR ".so")
                            .string();
  void* opened = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  void* make = opened ? ::dlsym(opened, "torchreel_make_device_graph") : nullptr;
  if (make) return reinterpret_cast<MakeDeviceGraph>(make);
  throw Error("ERR_DEVICE_UNAVAILABLE",
              "captureGraph needs torchreel_cuda-" TORCHREEL_LIBTORCH_MINOR
              ".so, which is built only against a CUDA libtorch with the CUDA headers: " +
                  std::string(::dlerror()));
}

}  // namespace

MakeDeviceGraph device_graphs(at::DeviceType type) {
  std::lock_guard lock(mutex);
  if (auto maker = graph_makers().find(type); maker != graph_makers().end()) return maker->second;
  if (type != at::kCUDA) {
    throw Error("ERR_DEVICE_UNAVAILABLE",
                "captureGraph needs a CUDA device, got " + c10::DeviceTypeName(type, /*lower_case=*/true));
  }
  return graph_makers()[type] = open_cuda_graphs();
}

void set_device_graphs(at::DeviceType type, MakeDeviceGraph make) {
  std::lock_guard lock(mutex);
  graph_makers()[type] = make;
}

}  // namespace torchreel
