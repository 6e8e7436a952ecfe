// A denoiser's step as one graph of the device. A step is thousands of kernels. A device that computes a
// kernel faster than the host launches the next one waits for the host; a graph is launched as a whole.
#pragma once

#include <c10/core/Stream.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "networks/denoiser.h"
#include "networks/device_graph.h"

namespace torchreel {

class RecordedDenoiser : public Denoiser {
 public:
  // `step` is the denoiser whose steps are recorded.
  RecordedDenoiser(std::unique_ptr<Denoiser> step, at::Device device)
      : step_(std::move(step)), device_(device) {}

  // Graphs have the addresses of the weights: they are dropped when the hold ends.
  WeightHold hold_weights() override;
  c10::IValue prepare(const at::Tensor& text) override { return step_->prepare(text); }
  // While the weights are held. The first call of each kind runs as usual, so that libraries initialise
  // themselves; the second is recorded, and later ones repeat the recording. Throws ERR_INTERNAL for a step
  // that cannot be recorded, ERR_INVALID_ARGUMENT with a feature cache.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                     const StepOptions& options) override;

 private:
  class RecordingHold;
  // Calls that differ only in numbers on the device.
  struct Kind {
    std::vector<int64_t> sizes;  // of x
    int64_t texts;               // G
    FreeU freeu;
    bool operator==(const Kind&) const = default;
  };
  // A graph, and the tensors at the addresses that it reads and writes.
  struct Recording {
    Kind kind;
    at::Tensor x, time;
    c10::List<at::Tensor> context;
    c10::IValue copied;  // the context that was copied to `context` last
    at::Tensor output;
    std::unique_ptr<DeviceGraph> graph;
  };

  // Runs `work` on a stream of its own, as recording requires, while this thread's other streams are idle.
  template <typename Work>
  at::Tensor run_on_own_stream(Work&& work);
  void record(Recording& recording, const at::Tensor& x, const at::Tensor& time, const c10::IValue& context);

  std::unique_ptr<Denoiser> step_;
  at::Device device_;
  std::optional<c10::Stream> stream_;  // one for all calls, since libraries keep memory for each stream
  std::deque<Recording> recordings_;   // the latest first
};

}  // namespace torchreel
