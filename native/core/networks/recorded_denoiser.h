// The UNet's step as one graph of the device. A step is thousands of kernels, and a device that is faster
// with each than the host with launching the next waits for the host; a graph is launched as a whole.
#pragma once

#include <c10/core/Stream.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "modelscope/unet.h"
#include "networks/device_graph.h"

namespace torchreel {

// Graphs hold the addresses of the weights: all stages stay placed, where they are, for as long as this is
// used.
class RecordedDenoiser {
 public:
  RecordedDenoiser(UNet unet, at::Device device) : unet_(unet), device_(device) {}

  // As UNet::forward. Of each kind of call the first is done as ever, which sets up what libraries set up
  // when they are first called; the second is recorded, and from then on it is repeated. Throws ERR_INTERNAL
  // for what cannot be recorded.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                     const FreeU& freeu);

  // To be called when weights move, and to give back what the graphs hold.
  void forget() { recordings_.clear(); }

 private:
  // Calls that differ in nothing but numbers on the device.
  struct Kind {
    std::vector<int64_t> sizes;  // of x
    int64_t texts;               // G
    FreeU freeu;
    bool operator==(const Kind&) const = default;
  };
  // The step's input and output, at the addresses that the graph has.
  struct Recording {
    Kind kind;
    at::Tensor x, time;
    c10::List<at::Tensor> context;
    c10::IValue copied;  // what `context` holds now
    at::Tensor output;
    std::unique_ptr<DeviceGraph> graph;
  };

  // On a stream of its own, which recording needs, while the device does nothing else of this thread's.
  template <typename Work>
  at::Tensor aside(Work&& work);
  void record(Recording& recording, const at::Tensor& x, const at::Tensor& time, const c10::IValue& context);

  UNet unet_;
  at::Device device_;
  std::optional<c10::Stream> stream_;  // of `aside`; one for all, since libraries keep memory for each stream
  std::deque<Recording> recordings_;   // the latest first
};

}  // namespace torchreel
