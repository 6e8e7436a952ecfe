// Work of a device, recorded once and then repeated as a whole, without the host's part in it. CUDA's graphs
// are in a library of their own, torchreel_cuda, because only it is built with CUDA's headers. The core opens
// it from its own folder when it is asked for a graph.
#pragma once

#include <c10/core/DeviceType.h>

namespace torchreel {

class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Until `end`, work that this thread gives to the current stream is recorded instead of done. Its memory
  // stays the graph's. Meanwhile nothing may wait for the device or read from it.
  virtual void begin() = 0;
  virtual void end() = 0;
  // Does the recorded work on the current stream, on the present numbers at the recorded addresses.
  virtual void replay() = 0;
};

// The caller owns the graph.
using MakeDeviceGraph = DeviceGraph* (*)();

// The maker of graphs for devices of that type. Throws ERR_DEVICE_UNAVAILABLE where there is none.
MakeDeviceGraph device_graphs(at::DeviceType type);

// Sets another maker. For tests.
void set_device_graphs(at::DeviceType type, MakeDeviceGraph make);

}  // namespace torchreel
