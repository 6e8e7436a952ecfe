// Work of a device, recorded once and then repeated as a whole, without the host's part in it. CUDA's graphs
// are a library of their own, torchreel_cuda, since only it is built with CUDA's headers: the core opens it,
// beside itself, when it is asked for a graph.
#pragma once

#include <c10/core/DeviceType.h>

namespace torchreel {

class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  // Until `end`, what this thread has the current stream do is recorded and not done, with memory that stays
  // the graph's. Meanwhile nothing may wait for the device or read from it.
  virtual void begin() = 0;
  virtual void end() = 0;
  // Does what was recorded, on the current stream, with what now lies where it then lay.
  virtual void replay() = 0;
};

// The caller owns the graph.
using MakeDeviceGraph = DeviceGraph* (*)();

// How graphs are made for such devices. Throws ERR_DEVICE_UNAVAILABLE where they are not.
MakeDeviceGraph device_graphs(at::DeviceType type);

// Another way from now on, which tests take.
void set_device_graphs(at::DeviceType type, MakeDeviceGraph make);

}  // namespace torchreel
