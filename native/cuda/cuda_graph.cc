// CUDA's graphs for the core. The core is built without CUDA's headers and opens this library when it needs a
// graph.
#include <ATen/cuda/CUDAGraph.h>

#include "networks/device_graph.h"

namespace {

class CudaGraph : public torchreel::DeviceGraph {
 public:
  // Other threads may do anything meanwhile, such as allocate memory for another pipeline.
  void begin() override { graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal); }
  void end() override { graph_.capture_end(); }
  void replay() override { graph_.replay(); }

 private:
  at::cuda::CUDAGraph graph_;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) torchreel::DeviceGraph* torchreel_make_device_graph() {
  return new CudaGraph;
}
