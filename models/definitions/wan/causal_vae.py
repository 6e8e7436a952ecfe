"""The causal autoencoder of Wan 2.1: video to latents and back, in time's order and a few frames at a time.

Everything goes through it frame by frame. Nothing looks ahead, so a layer that looks back keeps the frames that it
needs in `memory`, a list that belongs to one video (or one tile of it) and goes from call to call.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration import UnsupportedConfiguration, read_configuration, require, require_class
from ..layers import Weights, add_linear, attend, computes_on_cpu, convolve, linear, tokens_per_chunk
from .layers import rms_norm


@dataclass(frozen=True)
class AutoencoderKLWanConfiguration:
    """The keys of vae/config.json that determine the graph, with diffusers' defaults."""

    base_dim: int = 96
    decoder_base_dim: None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: None = None

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "AutoencoderKLWanConfiguration":
        """Raises UnsupportedConfiguration, naming the key."""
        require_class("vae", config, "_class_name", "AutoencoderKLWan")
        require("vae", "attn_scales", config.get("attn_scales", []), ([],))
        configuration = read_configuration(AutoencoderKLWanConfiguration, "vae", config)
        require("vae", "is_residual", configuration.is_residual, (False,))
        if len(configuration.temperal_downsample) != len(configuration.dim_mult) - 1:
            raise UnsupportedConfiguration(
                "vae",
                "temperal_downsample",
                f"a list of {len(configuration.dim_mult) - 1}",
                configuration.temperal_downsample,
            )
        if sum(configuration.temperal_downsample) != 2:
            raise UnsupportedConfiguration(
                "vae", "temperal_downsample", "a list with true twice", list(configuration.temperal_downsample)
            )
        # Between two blocks the decoder halves its channels, rounded down, whatever the next block's width is.
        if configuration.base_dim < 2:
            raise UnsupportedConfiguration("vae", "base_dim", "a number from 2 on", configuration.base_dim)
        return configuration


class Norm(nn.Module):
    """x / ‖x‖ · √C · gamma over the channels, then SiLU where the caller asks for it."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(shape))

    def forward(self, x: Tensor, silu: bool) -> Tensor:
        """x: (B, H, W, C), kept."""
        # max(‖x‖, 1e-12) in the definition: so small that it is in effect what keeps zeros from being divided by zero.
        eps = 1e-24 / x.size(-1)
        gamma = self.gamma.flatten()
        rows = x.view(-1, x.size(-1))
        y = torch.empty_like(rows)
        step = tokens_per_chunk(x, 4 * x.size(-1))
        for start in range(0, rows.size(0), step):
            chunk = rms_norm(rows[start : start + step], gamma, eps)
            y[start : start + step] = F.silu(chunk, inplace=True) if silu else chunk
        return y.view(x.shape)


class CausalConvolution(nn.Module):
    """Convolution of each frame with the two before it; before the first they are zeros.

    One 2-D convolution for each of the three. `memory` has the frames before at `slot` and `slot` + 1, the older one
    first; a frame that is not there yet is a tensor without elements.
    """

    weight: Tensor
    bias: Tensor
    slot: int

    def __init__(self, out_channels: int, channels: int, slots: Iterator[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels, 3, 3, 3))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.slot = next(slots)
        next(slots)

    def forward(self, x: Tensor, memory: list[Tensor]) -> Tensor:
        """x: (B, H, W, C), kept, in `memory` too."""
        older, old = memory[self.slot], memory[self.slot + 1]
        y = convolve(x, self.weight[:, :, 2], self.bias, 1, 1)
        if old.numel() > 0:
            y.add_(convolve(old, self.weight[:, :, 1], torch.zeros_like(self.bias), 1, 1))
        if older.numel() > 0:
            y.add_(convolve(older, self.weight[:, :, 0], torch.zeros_like(self.bias), 1, 1))
        memory[self.slot], memory[self.slot + 1] = old, x
        return y


class TimeConvolution(nn.Module):
    """Convolution of three frames, each position by itself: products with three matrices (O, C)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, out_channels: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, channels, 3, 1, 1))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def combine(self, older: Tensor, old: Tensor, x: Tensor, begin: int, end: int) -> Tensor:
        """Outputs `begin` up to `end` of frames (B, H, W, C); those without elements count as zeros."""
        taps = self.weight[begin:end, :, :, 0, 0].permute(2, 0, 1).contiguous()
        y = linear(x, taps[2], self.bias[begin:end])
        if old.numel() > 0:
            add_linear(y, old, taps[1], None)
        if older.numel() > 0:
            add_linear(y, older, taps[0], None)
        return y


class FrameDoubling(TimeConvolution):
    """Makes two frames of each, from it and the two before it, which are in `memory` as a CausalConvolution's are."""

    slot: int

    def __init__(self, channels: int, slots: Iterator[int]) -> None:
        super().__init__(2 * channels, channels)
        self.slot = next(slots)
        next(slots)

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        """frames: each (B, H, W, C); the video's first frame stays one, and is not seen from the second on."""
        if first:
            return frames
        result: list[Tensor] = []
        for x in frames:
            older, old = memory[self.slot], memory[self.slot + 1]
            result.append(self.combine(older, old, x, 0, x.size(-1)))
            result.append(self.combine(older, old, x, x.size(-1), 2 * x.size(-1)))
            memory[self.slot], memory[self.slot + 1] = old, x
        return result


class FrameHalving(TimeConvolution):
    """Makes one frame of every two, from them and the one before them, which is in `memory` at `slot`."""

    slot: int

    def __init__(self, channels: int, slots: Iterator[int]) -> None:
        super().__init__(channels, channels)
        self.slot = next(slots)

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        """frames: each (B, H, W, C), an even number of them; the video's first frame stays as it is."""
        if first:
            memory[self.slot] = frames[0]
            return frames
        result: list[Tensor] = []
        for index in range(0, len(frames), 2):
            old, x = frames[index], frames[index + 1]
            result.append(self.combine(memory[self.slot], old, x, 0, x.size(-1)))
            memory[self.slot] = x
        return result


class ResidualBlock(nn.Module):
    """y = shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x))))))."""

    def __init__(self, channels: int, out_channels: int, slots: Iterator[int]) -> None:
        super().__init__()
        self.norm1 = Norm(channels, 1, 1, 1)
        self.conv1 = CausalConvolution(out_channels, channels, slots)
        self.norm2 = Norm(out_channels, 1, 1, 1)
        self.conv2 = CausalConvolution(out_channels, out_channels, slots)
        self.conv_shortcut = Weights(out_channels, channels, 1, 1, 1) if channels != out_channels else None

    def run(self, x: Tensor, memory: list[Tensor]) -> Tensor:
        """x: (B, H, W, C), kept."""
        y = self.conv1(self.norm1(x, True), memory)
        y = self.conv2(self.norm2(y, True), memory)
        if self.conv_shortcut is not None:
            add_linear(y, x, self.conv_shortcut.weight.flatten(1), self.conv_shortcut.bias)
        else:
            y.add_(x)
        return y

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        """frames: each (B, H, W, C), replaced in the list one by one, so that few are held at a time."""
        for index, frame in enumerate(frames):
            frames[index] = self.run(frame, memory)
        return frames


class AttentionBlock(nn.Module):
    """Self-attention of one head over the positions of a frame, with norm and residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels, 1, 1)
        self.to_qkv = Weights(3 * channels, channels, 1, 1)
        self.proj = Weights(channels, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C), overwritten."""
        tokens = self.norm(x, False).flatten(1, 2)
        tokens = linear(tokens, self.to_qkv.weight.flatten(1), self.to_qkv.bias).unsqueeze(1)
        queries, keys, values = tokens.chunk(3, -1)
        y = attend(queries, keys, values)
        add_linear(x.view(x.size(0), -1, x.size(-1)), y, self.proj.weight.flatten(1), self.proj.bias)
        return x


class MidBlock(nn.Module):
    def __init__(self, channels: int, slots: Iterator[int]) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([AttentionBlock(channels)])
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, slots) for _ in range(2))

    def forward(self, x: Tensor, memory: list[Tensor]) -> Tensor:
        """x: (B, H, W, C), kept."""
        x = self.resnets[0].run(x, memory)
        x = self.attentions[0](x)
        return self.resnets[1].run(x, memory)


class Upsample(nn.Module):
    """Doubles height and width and halves the channels; with `time` it doubles the frames before that."""

    def __init__(self, channels: int, time: bool, slots: Iterator[int]) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": Weights(channels // 2, channels, 3, 3)})
        self.time_conv = FrameDoubling(channels, slots) if time else None

    def enlarge(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C), kept; each pixel becomes four, then a 3 × 3 convolution."""
        weight, bias = self.resample["1"].weight, self.resample["1"].bias
        if computes_on_cpu(x):
            return torch.ops.torchreel.upsample_and_convolve(x, weight, bias, 2 * x.size(1), 2 * x.size(2))
        b, h, w, c = x.shape
        doubled = x.view(b, h, 1, w, 1, c).expand(b, h, 2, w, 2, c).reshape(b, 2 * h, 2 * w, c)
        return convolve(doubled, weight, bias, 1, 1)

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        if self.time_conv is not None:
            frames = self.time_conv(frames, memory, first)
        return [self.enlarge(frame) for frame in frames]


class Downsample(nn.Module):
    """Halves height and width; with `time` it halves the frames after that."""

    def __init__(self, channels: int, time: bool, slots: Iterator[int]) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": Weights(channels, channels, 3, 3)})
        self.time_conv = FrameHalving(channels, slots) if time else None

    def reduce(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C), kept; 3 × 3 convolution with one row and column of zeros at the bottom and right only."""
        return convolve(F.pad(x, [0, 0, 0, 1, 0, 1]), self.resample["1"].weight, self.resample["1"].bias, 2, 0)

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        for index, frame in enumerate(frames):
            frames[index] = self.reduce(frame)
        if self.time_conv is not None:
            frames = self.time_conv(frames, memory, first)
        return frames


class UpBlock(nn.Module):
    def __init__(
        self, channels: int, out_channels: int, layers: int, upsample: bool, time: bool, slots: Iterator[int]
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(channels if layer == 0 else out_channels, out_channels, slots) for layer in range(layers)
        )
        self.upsamplers = nn.ModuleList([Upsample(out_channels, time, slots)] if upsample else [])

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        """frames: each (B, H, W, C); one goes through all layers before the next, so that few are held at a time."""
        result: list[Tensor] = []
        while len(frames) > 0:
            x = frames.pop(0)
            for resnet in self.resnets:
                x = resnet.run(x, memory)
            made = [x]
            for upsampler in self.upsamplers:
                made = upsampler(made, memory, first)
            result.extend(made)
        return result


class Encoder(nn.Module):
    slots: Final[int]

    def __init__(self, configuration: AutoencoderKLWanConfiguration) -> None:
        super().__init__()
        slots = count()
        widths = [configuration.base_dim * factor for factor in configuration.dim_mult]
        channels = configuration.base_dim
        self.conv_in = CausalConvolution(channels, configuration.in_channels, slots)
        self.down_blocks = nn.ModuleList()
        for index, width in enumerate(widths):
            for _ in range(configuration.num_res_blocks):
                self.down_blocks.append(ResidualBlock(channels, width, slots))
                channels = width
            if index < len(widths) - 1:
                self.down_blocks.append(Downsample(width, configuration.temperal_downsample[index], slots))
        self.mid_block = MidBlock(channels, slots)
        self.norm_out = Norm(channels, 1, 1, 1)
        self.conv_out = CausalConvolution(2 * configuration.z_dim, channels, slots)
        self.slots = next(slots)

    def forward(self, frames: list[Tensor], memory: list[Tensor], first: bool) -> list[Tensor]:
        """frames: each (B, H, W, 3): the video's first, or the next four; gives one, (B, h, w, 2·z_dim)."""
        frames = [self.conv_in(frame, memory) for frame in frames]
        for block in self.down_blocks:
            frames = block(frames, memory, first)
        result: list[Tensor] = []
        for frame in frames:
            x = self.norm_out(self.mid_block(frame, memory), True)
            result.append(self.conv_out(x, memory))
        return result


class Decoder(nn.Module):
    slots: Final[int]

    def __init__(self, configuration: AutoencoderKLWanConfiguration) -> None:
        super().__init__()
        slots = count()
        widths = [configuration.base_dim * factor for factor in reversed(configuration.dim_mult)]
        time = tuple(reversed(configuration.temperal_downsample)) + (False,)
        channels = widths[0]
        self.conv_in = CausalConvolution(channels, configuration.z_dim, slots)
        self.mid_block = MidBlock(channels, slots)
        self.up_blocks = nn.ModuleList()
        for index, width in enumerate(widths):
            last = index == len(widths) - 1
            layers = configuration.num_res_blocks + 1
            self.up_blocks.append(UpBlock(channels, width, layers, not last, time[index], slots))
            channels = width // 2
        self.norm_out = Norm(widths[-1], 1, 1, 1)
        self.conv_out = CausalConvolution(configuration.out_channels, widths[-1], slots)
        self.slots = next(slots)

    def forward(self, x: Tensor, memory: list[Tensor], first: bool) -> list[Tensor]:
        """x: (B, h, w, z_dim); gives the video's first frame, or the next four, each (B, H, W, 3)."""
        frames = [self.mid_block(self.conv_in(x, memory), memory)]
        for block in self.up_blocks:
            frames = block(frames, memory, first)
        return [self.conv_out(self.norm_out(frame, True), memory) for frame in frames]


class AutoencoderKLWan(nn.Module):
    """Video to latents and back. Call `encode` and `decode` in time's order; there is no forward."""

    def __init__(self, configuration: AutoencoderKLWanConfiguration) -> None:
        super().__init__()
        latent = configuration.z_dim
        self.encoder = Encoder(configuration)
        self.quant_conv = Weights(2 * latent, 2 * latent, 1, 1, 1)
        self.post_quant_conv = Weights(latent, latent, 1, 1, 1)
        self.decoder = Decoder(configuration)

    def start(self, memory: list[Tensor], slots: int, x: Tensor) -> bool:
        """Whether these are a video's first frames, for which `memory` gets its slots."""
        first = len(memory) == 0
        for _ in range(slots if first else 0):
            memory.append(torch.empty([0], dtype=x.dtype, device=x.device))
        return first

    @torch.jit.export
    def encode(self, frames: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor]:
        """frames: (B, 3, F, H, W) in [-1, 1], F 1 in the first call and 4 in every other.

        state: an empty list in the first call, then the same list, which every call changes. Gives mean and log
        variance (B, z_dim, 1, h, w) of the latents, neither centred nor scaled. The log variance is clamped to
        [-30, 20].
        """
        first = self.start(state, self.encoder.slots, frames)
        if frames.size(2) != (1 if first else 4):
            raise ValueError("encode takes 1 frame first, then 4 at a time")
        images = [image.permute(0, 2, 3, 1).contiguous() for image in frames.unbind(2)]
        x = self.encoder(images, state, first)[0]
        x = linear(x, self.quant_conv.weight.flatten(1), self.quant_conv.bias)
        mean, logvar = x.permute(0, 3, 1, 2).contiguous().unsqueeze(2).chunk(2, 1)
        return mean, logvar.clamp(-30.0, 20.0)

    @torch.jit.export
    def decode(self, latents: Tensor, state: list[Tensor]) -> Tensor:
        """latents: one latent frame (B, z_dim, 1, h, w), scaled and centred as the encoder gives it.

        state: an empty list in the first call, then the same list, which every call changes. Gives the frames (B, 3,
        F, H, W) around [-1, 1], not clamped: F is 1 in the first call and 4 in every other.
        """
        first = self.start(state, self.decoder.slots, latents)
        if latents.size(2) != 1:
            raise ValueError("decode takes one latent frame at a time")
        x = latents.squeeze(2).permute(0, 2, 3, 1).contiguous()
        x = linear(x, self.post_quant_conv.weight.flatten(1), self.post_quant_conv.bias)
        images = [image.permute(0, 3, 1, 2) for image in self.decoder(x, state, first)]
        return torch.stack(images, 2).contiguous()
