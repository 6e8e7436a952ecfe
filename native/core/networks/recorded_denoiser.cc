#include "networks/recorded_denoiser.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <exception>

#include "process/devices.h"
#include "process/error.h"

namespace torchreel {
namespace {

// With and without guidance, between which one job may alternate. Each keeps the memory of a whole step.
constexpr size_t max_recordings = 2;

}  // namespace

// Drops the recordings before the weights.
class RecordedDenoiser::RecordingHold {
 public:
  explicit RecordingHold(RecordedDenoiser& denoiser)
      : denoiser_(denoiser), weights_(denoiser.step_->hold_weights()) {}
  RecordingHold(const RecordingHold&) = delete;
  RecordingHold& operator=(const RecordingHold&) = delete;
  ~RecordingHold() { denoiser_.recordings_.clear(); }

 private:
  RecordedDenoiser& denoiser_;
  WeightHold weights_;
};

WeightHold RecordedDenoiser::hold_weights() { return std::make_shared<RecordingHold>(*this); }

at::Tensor RecordedDenoiser::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                                     const StepOptions& options) {
  if (options.cache) throw invalid_argument("featureCache cannot be combined with captureGraph");
  c10::List<at::Tensor> texts = context.toTensorList();
  Kind kind{x.sizes().vec(), count_texts(context, x),
            texts.empty() ? std::vector<int64_t>() : texts.get(0).sizes().vec(), options.freeu};
  auto recording = std::ranges::find(recordings_, kind, &Recording::kind);
  if (recording == recordings_.end()) {
    if (recordings_.size() == max_recordings) recordings_.pop_back();
    at::Tensor output = run_on_own_stream([&] { return step_->forward(x, time, context, options); });
    recordings_.emplace_front().kind = std::move(kind);
    return output;
  }

  if (!recording->graph) record(*recording, x, time, context);
  recording->x.copy_(x);
  recording->time.copy_(time);
  if (!recording->copied.is(context)) {
    c10::List<at::Tensor> tensors = context.toTensorList();
    for (size_t i = 0; i < tensors.size(); ++i) recording->context.get(i).copy_(tensors.get(i));
    recording->copied = context;
  }
  recording->graph->replay();
  return recording->output.clone();
}

void RecordedDenoiser::record(Recording& recording, const at::Tensor& x, const at::Tensor& time,
                              const c10::IValue& context) {
  std::unique_ptr<DeviceGraph> graph(device_graphs(device_.type())());
  recording.x = x.clone();
  recording.time = time.clone();
  recording.context = c10::List<at::Tensor>();
  c10::List<at::Tensor> tensors = context.toTensorList();
  for (const at::Tensor& tensor : tensors) recording.context.push_back(tensor.clone());
  recording.copied = context;
  try {
    recording.output = run_on_own_stream([&] {
      // The allocator cannot give the graph free memory that belongs to the stream of the last call.
      if (!device_.is_cpu()) at::getDeviceAllocator(device_.type())->emptyCache();
      graph->begin();
      at::Tensor output;
      std::exception_ptr failure;
      try {
        output =
            step_->forward(recording.x, recording.time, recording.context, {.freeu = recording.kind.freeu});
      } catch (...) {
        failure = std::current_exception();
      }
      try {
        graph->end();
      } catch (...) {
        if (!failure) throw;
      }
      if (failure) std::rethrow_exception(failure);
      return output;
    });
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // the device is not lost, even if the message sounds like it
    if (std::string_view(code_of(error, "")) == "ERR_OUT_OF_MEMORY") throw;
    throw Error("ERR_INTERNAL",
                "could not record a step as a graph of the device (turn captureGraph off to run without): " +
                    std::string(short_message(error)),
                "denoise");
  }
  recording.graph = std::move(graph);
}

template <typename Work>
at::Tensor RecordedDenoiser::run_on_own_stream(Work&& work) {
  if (device_.is_cpu()) return work();
  c10::impl::VirtualGuardImpl streams(device_.type());
  // From the pool that copies of weights do not use.
  if (!stream_) stream_ = streams.getStreamFromGlobalPool(device_, /*isHighPriority=*/true);
  streams.getStream(device_).synchronize();
  c10::StreamGuard guard(*stream_);
  at::Tensor output;
  try {
    output = work();
  } catch (...) {
    // The memory of what was read goes back to the other stream, so this one must be done with it.
    finish_work(device_);
    throw;
  }
  stream_->synchronize();
  return output;
}

}  // namespace torchreel
