// Devices that were lost: their driver refuses all work until the process ends, so later calls need not try.
#pragma once

#include <string>

namespace torchreel {

void mark_device_lost(const std::string& name);

// Throws ERR_DEVICE_LOST.
void refuse_lost_device(const std::string& name);

}  // namespace torchreel
