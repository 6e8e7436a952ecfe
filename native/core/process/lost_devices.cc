#include "process/lost_devices.h"

#include <mutex>
#include <set>

#include "process/error.h"

namespace torchreel {
namespace {

struct LostDevices {
  std::mutex mutex;
  std::set<std::string> names;
};

LostDevices& lost_devices() {
  static auto* const devices =
      new LostDevices;  // never destroyed: job threads may outlive static destruction
  return *devices;
}

// "cuda" is "cuda:0".
std::string full_name(const std::string& name) {
  return name.find(':') == std::string::npos ? name + ":0" : name;
}

}  // namespace

void mark_device_lost(const std::string& name) {
  std::lock_guard lock(lost_devices().mutex);
  lost_devices().names.insert(full_name(name));
}

void refuse_lost_device(const std::string& name) {
  std::lock_guard lock(lost_devices().mutex);
  if (!lost_devices().names.contains(full_name(name))) return;
  throw Error("ERR_DEVICE_LOST", "the device " + name + " was lost: restart the process");
}

}  // namespace torchreel
