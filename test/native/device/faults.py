"""Faults in what the core does for a device, one place each: what device_faults_test orders, and device checks must see.

`faults.py CORE BUILD FILE...` writes the core with a switch at every place (left_out.h) into BUILD/core.cc, which includes
the FILEs, and copies of those in CORE that have faults; and the names of all faults into BUILD/faults.inc. A text that is
not found once in its file is an error: the table follows the core.
"""

import sys
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """`LEFT_OUT` stands for whether the fault is ordered."""

    file: str
    name: str
    text: str
    instead: str
    seen_by: str


NONE, MODEL, SEQUENTIAL = (f"offload '{mode}' computes as the CPU" for mode in ("none", "model", "sequential"))
WAN_NONE, WAN_SEQUENTIAL = f"Wan: {NONE}", f"Wan: {SEQUENTIAL}"

NETWORK = "networks/network.cc"
RECORDED = "networks/recorded_denoiser.cc"

FAULTS = [
    Fault(NETWORK, "weights are not copied to the device",
          "bool there = value.device() == network.device_ && value.scalar_type() == type;",
          "bool there = LEFT_OUT || (value.device() == network.device_ && value.scalar_type() == type);", NONE),
    Fault(NETWORK, "copies of weights are not waited for", "    stream.wait();", "    if (!LEFT_OUT) stream.wait();", MODEL),
    Fault(NETWORK, "copies of weights go through a stream of the first device",
          "    stream_ = c10::impl::VirtualGuardImpl(",
          "    if (LEFT_OUT) device = at::Device(device.type(), 0);\n    stream_ = c10::impl::VirtualGuardImpl(", MODEL),
    Fault(NETWORK, "weights go while the device computes with them",
          "if (copied_ > 0) finish_work(", "if (copied_ > 0 && !LEFT_OUT) finish_work(", SEQUENTIAL),
    Fault(NETWORK, "weights that are placed are placed again",
          "stages_[stage].placement = placement;", "if (!LEFT_OUT) stages_[stage].placement = placement;", "bytes copied"),
    Fault(NETWORK, "weights are not kept page-locked", "if (pins_) pin(", "if (pins_ && !LEFT_OUT) pin(",
          "bytes on the device"),
    Fault(NETWORK, "weights are page-locked in the file's dtype",
          "weight.pinned = make_copy(weight.host, at::kCPU, weight.float32 ? at::kFloat : dtype_)",
          "weight.pinned = make_copy(weight.host, at::kCPU, weight.float32 || LEFT_OUT ? at::kFloat : dtype_)", "waits and launches"),
    Fault(NETWORK, "page-locked weights have their channels first", ".pin_memory();",
          ".pin_memory();\n    if (LEFT_OUT) weight.pinned = weight.pinned.contiguous().pin_memory();", "waits and launches"),
    Fault("networks/adaptation.cc", "adapters are not copied to the device",
          "return tensor.to(weight.device(), at::kFloat);",
          "return tensor.to(LEFT_OUT ? at::Device(at::kCPU) : weight.device(), at::kFloat);", "adapters"),
    Fault("process/devices.cc", "a device is taken without its index",
          "  return device.has_index() ? device", "  return device.has_index() && !LEFT_OUT ? device", NONE),
    Fault("process/devices.cc", "noise is not copied to the device",
          "return device.is_cpu() ? host : host.pin_memory()", "return device.is_cpu() || LEFT_OUT ? host : host.pin_memory()",
          NONE),
    Fault("process/devices.cc", "noise is copied from memory that is not page-locked",
          "host.pin_memory().to(", "(LEFT_OUT ? host : host.pin_memory()).to(", "waits and launches"),
    Fault("denoise_loop.cc", "timesteps are made on the current device",
          "const at::Device device = start.device();",
          "const at::Device device = LEFT_OUT ? at::Device(start.device().type()) : start.device();", NONE),
    Fault("denoise_loop.cc", "a step is not waited for", "      wait_for(device);", "      LEFT_OUT ? void() : wait_for(device);",
          "waits and launches"),
    Fault("denoise_loop.cc", "latents are read before they came", "sample.to(at::kCPU)",
          "sample.to(at::kCPU, sample.scalar_type(), /*non_blocking=*/LEFT_OUT)", NONE),
    Fault("pipeline.cc", "frames are read before they came", ".to(at::kCPU).contiguous();",
          ".to(at::kCPU, at::kByte, /*non_blocking=*/LEFT_OUT).contiguous();", NONE),
    Fault("pipeline.cc", "weights are not held for a job", "if (offload_ == Offload::model) next",
          "if (offload_ == Offload::model && !LEFT_OUT) next", "bytes copied"),
    Fault("pipeline.cc", "the denoiser's weights stay for the VAE", "WeightHold denoiser_weights = std::move(next);",
          "WeightHold denoiser_weights = next;\n    WeightHold more = LEFT_OUT ? text_network_.place() : nullptr;",
          "bytes on the device"),
    Fault("pipeline.cc", "latents that the caller owns are not copied",
          "      .to(device_, at::kFloat, /*non_blocking=*/false, /*copy=*/true);",
          "      .to(LEFT_OUT ? at::Device(at::kCPU) : device_, at::kFloat);", NONE),
    Fault("pipeline.cc", "the VAE's noise is not copied to the device", "height, width).to(device_);",
          "height, width).to(LEFT_OUT ? at::Device(at::kCPU) : device_);", NONE),
    Fault("pipeline.cc", "memory is that of the first device", "getDeviceStats(device_.index())",
          "getDeviceStats(LEFT_OUT ? at::DeviceIndex{0} : device_.index())", NONE),
    Fault("networks/prompt_embedder.cc", "embeddings that the caller owns are not copied",
          "return {given.to(network_.device(), dtype_, /*non_blocking=*/false, /*copy=*/true)",
          "return {given.to(LEFT_OUT ? at::Device(at::kCPU) : network_.device(), dtype_)", NONE),
    Fault("modelscope/clip_text.cc", "tokens are not copied to the device", "batch.ids.to(network_.device())",
          "batch.ids.to(LEFT_OUT ? at::Device(at::kCPU) : network_.device())", NONE),
    Fault("modelscope/vae.cc", "a video is not copied to the device", ".to(network_.device(), at::kFloat);",
          ".to(LEFT_OUT ? at::Device(at::kCPU) : network_.device(), at::kFloat);", NONE),
    Fault("modelscope/unet.cc", "the next stage is copied when this one is gone",
          "    WeightHold next = index + 1", "    if (LEFT_OUT) hold = nullptr;\n    WeightHold next = index + 1",
          "bytes on the device"),
    Fault("modelscope/unet.cc", "a stage's weights stay until the step ends", "    hold = std::move(next);",
          "    if (LEFT_OUT) next = std::make_shared<std::pair<WeightHold, WeightHold>>(hold, next);\n"
          "    hold = std::move(next);", "bytes on the device"),
    Fault(NETWORK, "rows of the table are not copied to the device", "index_select(0, rows).to(device_, dtype_)",
          "index_select(0, rows).to(LEFT_OUT ? at::Device(at::kCPU) : device_, dtype_)", WAN_NONE),
    Fault("wan/umt5.cc", "no layer of the text encoder is copied ahead", "const bool ahead = !network_.device().is_cpu();",
          "const bool ahead = !network_.device().is_cpu() && !LEFT_OUT;", "Wan: bytes on the device"),
    Fault("wan/umt5.cc", "layers of the text encoder stay", "    hold = std::move(next);",
          "    if (LEFT_OUT) next = std::make_shared<std::pair<WeightHold, WeightHold>>(hold, next);\n"
          "    hold = std::move(next);", "Wan: bytes on the device"),
    Fault("wan/transformer.cc", "the next block is copied when this one is gone",
          "    WeightHold next = stage + 1", "    if (LEFT_OUT) hold = nullptr;\n    WeightHold next = stage + 1",
          "Wan: bytes on the device"),
    Fault("wan/transformer.cc", "a block's weights stay until the step ends", "    hold = std::move(next);",
          "    if (LEFT_OUT) next = std::make_shared<std::pair<WeightHold, WeightHold>>(hold, next);\n"
          "    hold = std::move(next);", "Wan: bytes on the device"),
    Fault("wan/causal_vae.cc", "frames are not copied to the device", ".to(network_.device(), at::kFloat) / 255",
          ".to(LEFT_OUT ? at::Device(at::kCPU) : network_.device(), at::kFloat) / 255", WAN_NONE),
    Fault("wan/causal_vae.cc", "the VAE's weights are not held while it decodes",
          "  WeightHold hold = network_.place();\n  at::Tensor scaled",
          "  WeightHold hold = LEFT_OUT ? nullptr : network_.place();\n  at::Tensor scaled", WAN_SEQUENTIAL),
    Fault(RECORDED, "recordings outlive their weights", "~RecordingHold() { denoiser_.recordings_.clear(); }",
          "~RecordingHold() { if (!LEFT_OUT) denoiser_.recordings_.clear(); }", "recorded steps"),
    Fault(RECORDED, "a recording keeps its sample", "  recording->x.copy_(x);", "  if (!LEFT_OUT) recording->x.copy_(x);",
          "recorded steps"),
    Fault(RECORDED, "a recording keeps its timestep", "  recording->time.copy_(time);",
          "  if (!LEFT_OUT) recording->time.copy_(time);", "recorded steps"),
    Fault(RECORDED, "a recording keeps its prompt", "if (!recording->copied.is(context)) {",
          "if (!LEFT_OUT && !recording->copied.is(context)) {", "recorded steps"),
    Fault(RECORDED, "another stream begins before this one ends", "  streams.getStream(device_).synchronize();",
          "  if (!LEFT_OUT) streams.getStream(device_).synchronize();", "recorded steps"),
    Fault(RECORDED, "this stream goes on before the other one ends", "  stream_->synchronize();",
          "  if (!LEFT_OUT) stream_->synchronize();", "recorded steps"),
    Fault(RECORDED, "a step that fails leaves its stream at work", "    finish_work(device_);",
          "    if (!LEFT_OUT) finish_work(device_);", "refused memory"),
    Fault(RECORDED, "a recording is made on the current stream", "  c10::StreamGuard guard(*stream_);",
          "  c10::StreamGuard guard(LEFT_OUT ? streams.getStream(device_) : *stream_);", "recorded steps"),
    Fault("networks/compiled_denoiser.cc", "a compiled step runs on the current device",
          "  c10::DeviceGuard guard(network_.device());",
          "  c10::DeviceGuard guard(LEFT_OUT ? at::Device(network_.device().type(), 0) : network_.device());",
          "a compiled step"),
    Fault("process/lost_devices.cc", "a lost device is tried again", "  lost_devices().names.insert(",
          "  if (!LEFT_OUT) lost_devices().names.insert(", "a lost device"),
    Fault("process/lost_devices.cc", "a lost device is known by one of its names",
          'return name.find(\':\') == std::string::npos ?', 'return name.find(\':\') == std::string::npos && !LEFT_OUT ?',
          "a lost device"),
]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main() -> None:
    core, build, *files = map(Path, sys.argv[1:])
    sources: dict[str, str] = {}
    for fault in FAULTS:
        source = sources.setdefault(fault.file, '#include "left_out.h"\n' + (core / fault.file).read_text())
        if source.count(fault.text) != 1:
            sys.exit(f"{fault.file} has {source.count(fault.text)} times, not once: {fault.text}")
        switch = f'left_out("{fault.name}")'
        sources[fault.file] = source.replace(fault.text, fault.instead.replace("LEFT_OUT", switch))
    for file, source in sources.items():
        write(build / file, source)
    copies = {core / file: build / file for file in sources}
    if not copies.keys() <= set(files):
        sys.exit("files with faults are not among the core's")
    write(build / "core.cc", "".join(f'#include "{copies.get(file, file)}"\n' for file in files))
    rows = "".join(f'{{"{fault.name}", "{fault.seen_by}"}},\n' for fault in FAULTS)
    write(build / "faults.inc", rows)


if __name__ == "__main__":
    main()
