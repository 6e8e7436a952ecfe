#include "networks/recorded_denoiser.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <exception>

#include "process/error.h"

namespace torchreel {
namespace {

// With and without guidance, which one job may take turns with. Each holds memory for all of a step.
constexpr size_t max_recordings = 2;

}  // namespace

at::Tensor RecordedDenoiser::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                                     const FreeU& freeu) {
  c10::List<at::Tensor> tensors = context.toTensorList();
  Kind kind{x.sizes().vec(), tensors.empty() ? x.size(0) : tensors.get(0).size(0), freeu};
  auto recording = std::ranges::find(recordings_, kind, &Recording::kind);
  if (recording == recordings_.end()) {
    if (recordings_.size() == max_recordings) recordings_.pop_back();
    at::Tensor output = aside([&] { return unet_.forward(x, time, context, freeu); });
    recordings_.emplace_front().kind = std::move(kind);
    return output;
  }

  if (!recording->graph) record(*recording, x, time, context);
  recording->x.copy_(x);
  recording->time.copy_(time);
  if (!recording->copied.is(context)) {
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
    recording.output = aside([&] {
      // Free memory that belongs to the stream of the call before cannot be given to the graph.
      if (!device_.is_cpu()) at::getDeviceAllocator(device_.type())->emptyCache();
      graph->begin();
      at::Tensor output;
      std::exception_ptr failure;
      try {
        output = unet_.forward(recording.x, recording.time, recording.context, recording.kind.freeu);
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
  } catch (const std::exception& error) {  // not a lost device, whatever it says
    if (std::string_view(code_of(error, "")) == "ERR_OUT_OF_MEMORY") throw;
    throw Error(
        "ERR_INTERNAL",
        "a step could not be recorded, without captureGraph it need not be: " + std::string(told(error)),
        "denoise");
  }
  recording.graph = std::move(graph);
}

template <typename Work>
at::Tensor RecordedDenoiser::aside(Work&& work) {
  if (device_.is_cpu()) return work();
  c10::impl::VirtualGuardImpl streams(device_.type());
  // Of the pool that copies of weights take none from.
  if (!stream_) stream_ = streams.getStreamFromGlobalPool(device_, /*isHighPriority=*/true);
  streams.getStream(device_).synchronize();
  c10::StreamGuard guard(*stream_);
  at::Tensor output = work();
  stream_->synchronize();
  return output;
}

}  // namespace torchreel
