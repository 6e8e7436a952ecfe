"""Micro-benchmarks: compares each optimised layer with the plain way to compute the same.

    PYTHONPATH=<folder that holds torch> python3 bench/parts.py [--channels 128] [--frames 8] [--side 32] [--calls 9]

Prints a Markdown table of medians. Both ways take turns, on the same random numbers, and must agree.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

repository = Path(__file__).parent.parent
minor = ".".join(torch.__version__.split(".")[:2])
torch.ops.load_library(repository / f"build/Release/torchreel_core-{minor}.so")  # the operators
sys.path.insert(0, str(repository / "models"))

from definitions.layers import Attention, Upsample, attend, convolve, group_norm, linear  # noqa: E402
from definitions.transformer import FeedForward, TemporalTransformer  # noqa: E402
from definitions.unet3d import TemporalConvolution  # noqa: E402

Way = Callable[[], Tensor]
TEXT_TOKENS = 77


def randomized(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        parameter.requires_grad_(False).normal_(0, parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1)
    return network.eval()


def parts(channels: int, frames: int, side: int) -> dict[str, tuple[Way, Way]]:
    """Each part in the plain way and in ours. x is (1, F, H, W, C), our layout; planes is (F, C, H, W), the plain one."""
    x = torch.randn(1, frames, side, side, channels)
    planes = x[0].permute(0, 3, 1, 2).contiguous()
    tokens = x.view(frames, side * side, channels)

    wide = randomized(nn.Linear(channels, 4 * channels))

    feed_forward = randomized(FeedForward(channels))
    gate, out = feed_forward.net["0"].proj, feed_forward.net["2"]

    def plain_feed_forward() -> Tensor:
        hidden, gates = F.linear(tokens, gate.weight, gate.bias).chunk(2, -1)
        return F.linear(hidden * F.gelu(gates), out.weight, out.bias)

    def chunked_feed_forward() -> Tensor:
        step = max(256, (1 << 20) // (4 * channels))  # the chunk size of the UNet's transformers
        return torch.cat([feed_forward(chunk) for chunk in tokens.view(-1, channels).split(step)]).view(tokens.shape)

    convolution = randomized(TemporalConvolution(channels, 32))

    def plain_temporal_convolution() -> Tensor:
        video = planes.transpose(0, 1).unsqueeze(0)  # (1, C, F, H, W)
        y = video
        for name, layer in (("conv1", "2"), ("conv2", "3"), ("conv3", "3"), ("conv4", "3")):
            norm, weights = getattr(convolution, name)["0"], getattr(convolution, name)[layer]
            y = F.silu(F.group_norm(y, 32, norm.weight, norm.bias, 1e-5))
            y = F.conv3d(y, weights.weight, weights.bias, padding=(1, 0, 0))
        return (video + y).permute(0, 2, 3, 4, 1)

    upsample = randomized(Upsample(channels))
    kernel = upsample.conv

    def plain_norm() -> Tensor:
        return F.silu(F.group_norm(planes, 32, *scales)).permute(0, 2, 3, 1).unsqueeze(0)

    def plain_upsample() -> Tensor:
        y = F.interpolate(planes, scale_factor=2.0, mode="nearest")
        y = F.conv2d(y, upsample.conv.weight, upsample.conv.bias, padding=1)
        return y.permute(0, 2, 3, 1).unsqueeze(0)

    scales = [torch.randn(channels), torch.randn(channels)]
    frames_of_a_position = [torch.randn(side * side, frames, channels // 64 or 1, 64).transpose(1, 2) for _ in range(3)]
    text = torch.randn(1, TEXT_TOKENS, 4 * channels)
    attention = randomized(Attention(channels, 4 * channels, max(1, channels // 64), False))
    keys, values = attention.keys(text), attention.values(text)

    def plain_attention() -> Tensor:
        repeated = text.expand(frames, -1, -1).contiguous()
        return attention(tokens, attention.keys(repeated), attention.values(repeated))

    temporal = randomized(TemporalTransformer(channels, 0, max(1, channels // 64), 64, 32))

    def plain_temporal_transformer() -> Tensor:
        video = planes.transpose(0, 1).unsqueeze(0)
        y = F.group_norm(video, 32, temporal.norm.weight, temporal.norm.bias, 1e-6)
        y = y.permute(0, 3, 4, 2, 1).reshape(side * side, frames, channels)
        y = F.linear(y, temporal.proj_in.weight, temporal.proj_in.bias)
        block = temporal.transformer_blocks[0]
        block.attend_to_itself(y)
        block.attend_to_itself_again(y)
        block.feed_forward(y)
        y = F.linear(y, temporal.proj_out.weight, temporal.proj_out.bias)
        return video.permute(0, 2, 3, 4, 1) + y.view(1, side, side, frames, channels).permute(0, 3, 1, 2, 4)

    return {
        "linear layer": (lambda: wide(tokens), lambda: linear(tokens, wide.weight, wide.bias)),
        "feed-forward: fused gelu, no copies, in chunks": (plain_feed_forward, chunked_feed_forward),
        "attention to the text: keys and values once": (
            plain_attention,
            lambda: attention(tokens.view(1, -1, channels), keys, values).view(tokens.shape),
        ),
        "group norm with SiLU": (plain_norm, lambda: group_norm(x[0], 32, *scales, 1e-5, True).unsqueeze(0)),
        "3 × 3 convolution": (
            lambda: F.conv2d(planes, kernel.weight, kernel.bias, padding=1).permute(0, 2, 3, 1).unsqueeze(0),
            lambda: convolve(x, kernel.weight, kernel.bias, 1, 1),
        ),
        "attention between few frames": (
            lambda: F.scaled_dot_product_attention(*frames_of_a_position).transpose(1, 2).flatten(2),
            lambda: attend(*frames_of_a_position),
        ),
        "temporal convolution": (plain_temporal_convolution, lambda: convolution(x.clone())),
        "temporal transformer in chunks": (plain_temporal_transformer, lambda: temporal(x.clone())),
        "upsampling with its convolution": (plain_upsample, lambda: upsample(x, 2 * side, 2 * side)),
    }


def measure(ways: tuple[Way, Way], calls: int) -> list[float]:
    """Medians in milliseconds. The first call of each is a warm-up and does not count."""
    times: list[list[float]] = [[], []]
    results = [way() for way in ways]
    error = (results[0] - results[1]).abs().max() / results[0].abs().max()
    assert error < 1e-4, f"the two ways differ by {error:.1e}"
    for _ in range(calls):
        for way, taken in zip(ways, times):
            started = time.perf_counter()
            way()
            taken.append((time.perf_counter() - started) * 1000)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description="Layers that were made faster, beside the plain way.")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="of the latents")
    parser.add_argument("--calls", type=int, default=9)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"{arguments.channels} channels, {arguments.frames} frames of {arguments.side} × {arguments.side} latents,")
    print(f"float32, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| | plain | here | faster |\n| --- | --- | --- | --- |")
    with torch.inference_mode():
        for name, ways in parts(arguments.channels, arguments.frames, arguments.side).items():
            plain, ours = measure(ways, arguments.calls)
            print(f"| {name} | {plain:.1f} ms | {ours:.1f} ms | {plain / ours:.2f} × |", flush=True)


main()
