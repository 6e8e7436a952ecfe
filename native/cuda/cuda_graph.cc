// CUDA's graphs for the core, which is built without CUDA's headers and opens this library when it is asked
// for one.
#include <ATen/cuda/CUDAGraph.h>

#include "networks/device_graph.h"

namespace {

class CudaGraph : public torchreel::DeviceGraph {
 public:
  // What other threads do meanwhile, such as taking memory for another pipeline, is none of this capture's
  // business.
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
