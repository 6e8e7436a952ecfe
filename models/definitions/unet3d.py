"""The video UNet of ModelScope text-to-video (Wang et al. 2023, https://arxiv.org/abs/2308.06571).

A spatial UNet with cross-attention to the text, and after each of its layers one that mixes the frames: a temporal
convolution after each resnet, a temporal transformer after each spatial one.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import UnsupportedConfiguration, read_configuration, require, require_class, require_groups
from .layers import Downsample, ResnetBlock, Upsample, Weights, computes_on_cpu, convolve, group_norm
from .transformer import SpatialTransformer, TemporalTransformer


@dataclass(frozen=True)
class UNet3DConfiguration:
    """The keys of unet/config.json that determine the graph, with diffusers' defaults."""

    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = (
        "CrossAttnDownBlock3D",
        "CrossAttnDownBlock3D",
        "CrossAttnDownBlock3D",
        "DownBlock3D",
    )
    up_block_types: tuple[str, ...] = ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D")
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1.0
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1024
    attention_head_dim: int = 64
    num_attention_heads: None = None
    time_cond_proj_dim: None = None

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "UNet3DConfiguration":
        """Raises UnsupportedConfiguration, naming the key."""
        require_class("unet", config, "_class_name", "UNet3DConditionModel")
        configuration = read_configuration(UNet3DConfiguration, "unet", config)
        require("unet", "act_fn", configuration.act_fn, ("silu", "swish"))
        require("unet", "downsample_padding", configuration.downsample_padding, (1,))
        for kind in configuration.down_block_types:
            require("unet", "down_block_types", kind, ("CrossAttnDownBlock3D", "DownBlock3D"))
        for kind in configuration.up_block_types:
            require("unet", "up_block_types", kind, ("CrossAttnUpBlock3D", "UpBlock3D"))
        widths = configuration.block_out_channels
        if len(configuration.down_block_types) != len(widths):
            raise UnsupportedConfiguration(
                "unet", "down_block_types", f"{len(widths)} types", configuration.down_block_types
            )
        if len(configuration.up_block_types) != len(widths):
            raise UnsupportedConfiguration(
                "unet", "up_block_types", f"{len(widths)} types", configuration.up_block_types
            )
        require_groups("unet", widths, configuration.norm_num_groups)
        if not 1 <= configuration.attention_head_dim <= min(widths):
            raise UnsupportedConfiguration(
                "unet", "attention_head_dim", f"between 1 and {min(widths)}", configuration.attention_head_dim
            )
        return configuration


def convolve_frames(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution over three frames of x (B, F, H·W, C) with a weight (O, C, 3, 1, 1): (B, F, H·W, O)."""
    if computes_on_cpu(x):
        return torch.ops.torchreel.convolve_frames(x, weight, bias)
    # As a 2-D convolution over (F, H·W): 3-D ones are slow in channels last.
    y = F.conv2d(x.permute(0, 3, 1, 2), weight.squeeze(4), bias, [1, 1], [1, 0])
    return y.permute(0, 2, 3, 1).contiguous()


class TemporalConvolution(nn.Module):
    """Group norm, SiLU and a convolution over three frames. Published as a sequence, with a gap for the dropout."""

    groups: Final[int]
    eps: Final[float]

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.eps = 1e-5  # fixed, whatever norm_eps is
        self.conv1 = nn.ModuleDict({"0": Weights(channels), "2": Weights(channels, channels, 3, 1, 1, packable=True)})
        self.conv2 = nn.ModuleDict({"0": Weights(channels), "3": Weights(channels, channels, 3, 1, 1, packable=True)})
        self.conv3 = nn.ModuleDict({"0": Weights(channels), "3": Weights(channels, channels, 3, 1, 1, packable=True)})
        self.conv4 = nn.ModuleDict({"0": Weights(channels), "3": Weights(channels, channels, 3, 1, 1, packable=True)})

    def step(self, x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x: (B, F, H·W, C), kept; weight: (C, C, 3, 1, 1)."""
        y = group_norm(x, self.groups, norm_weight, norm_bias, self.eps, silu=True)
        return convolve_frames(y, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, F, H, W, C), overwritten."""
        video = x.view(x.size(0), x.size(1), -1, x.size(-1))
        norm, convolution = self.conv1["0"], self.conv1["2"]
        y = self.step(video, norm.weight, norm.bias, convolution.weight, convolution.bias)
        norm, convolution = self.conv2["0"], self.conv2["3"]
        y = self.step(y, norm.weight, norm.bias, convolution.weight, convolution.bias)
        norm, convolution = self.conv3["0"], self.conv3["3"]
        y = self.step(y, norm.weight, norm.bias, convolution.weight, convolution.bias)
        norm, convolution = self.conv4["0"], self.conv4["3"]
        y = group_norm(y, self.groups, norm.weight, norm.bias, self.eps, silu=True)
        if computes_on_cpu(x):
            torch.ops.torchreel.add_convolve_frames(video, y, convolution.weight, convolution.bias)
        else:
            video.add_(convolve_frames(y, convolution.weight, convolution.bias))
        return x


@dataclass(frozen=True)
class Widths:
    """What the layers of all blocks are built from, beside their own widths."""

    time: int
    text: int
    head: int
    groups: int
    eps: float

    def resnet(self, channels: int, out_channels: int, scale: float = 1.0) -> ResnetBlock:
        return ResnetBlock(channels, out_channels, self.time, self.groups, self.eps, scale)

    def spatial_transformer(self, channels: int) -> SpatialTransformer:
        return SpatialTransformer(channels, self.text, channels // self.head, self.head, self.groups)

    def temporal_transformer(self, channels: int) -> TemporalTransformer:
        return TemporalTransformer(channels, 0, channels // self.head, self.head, self.groups)


class Block(nn.Module):
    """Layers of resnet, temporal convolution and, where the type says so, spatial and temporal transformer.

    context: the keys and values of the text for all layers of the network; this block's begin at `first_context`.
    """

    first_context: Final[int]

    def __init__(self, first_context: int) -> None:
        super().__init__()
        self.first_context = first_context
        self.resnets = nn.ModuleList()
        self.temp_convs = nn.ModuleList()
        self.attentions = nn.ModuleList()
        self.temp_attentions = nn.ModuleList()

    def prepare(self, text: Tensor) -> list[Tensor]:
        """Keys and values (G, heads, L, d) of text (G, L, D) for each of this block's spatial transformers."""
        context: list[Tensor] = []
        for attention in self.attentions:
            context.append(attention.keys(text))
            context.append(attention.values(text))
        return context


class DownBlock(Block):
    def __init__(
        self, widths: Widths, channels: int, out_channels: int, layers: int, downsample: bool, first_context: int
    ) -> None:
        super().__init__(first_context)
        for layer in range(layers):
            self.resnets.append(widths.resnet(channels if layer == 0 else out_channels, out_channels))
            self.temp_convs.append(TemporalConvolution(out_channels, widths.groups))
        self.downsamplers = nn.ModuleList([Downsample(out_channels, 1)] if downsample else [])

    def forward(self, x: Tensor, time: Tensor, context: list[Tensor], skips: list[Tensor]) -> Tensor:
        """x: (B, F, H, W, C), kept; time: (1, T); appends its results to `skips`."""
        for resnet, convolution in zip(self.resnets, self.temp_convs):
            x = convolution(resnet(x, time))
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x


class CrossAttentionDownBlock(DownBlock):
    def __init__(
        self, widths: Widths, channels: int, out_channels: int, layers: int, downsample: bool, first_context: int
    ) -> None:
        super().__init__(widths, channels, out_channels, layers, downsample, first_context)
        for _ in range(layers):
            self.attentions.append(widths.spatial_transformer(out_channels))
            self.temp_attentions.append(widths.temporal_transformer(out_channels))

    def forward(self, x: Tensor, time: Tensor, context: list[Tensor], skips: list[Tensor]) -> Tensor:
        """x: (B, F, H, W, C), kept; time: (1, T); appends its results to `skips`. Gives (G, F, H', W', C')."""
        index = self.first_context
        for resnet, convolution, attention, temporal in zip(
            self.resnets, self.temp_convs, self.attentions, self.temp_attentions
        ):
            x = convolution(resnet(x, time))
            x = temporal(attention(x, context[index], context[index + 1]))
            skips.append(x)
            index += 2
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x


class MidBlock(Block):
    def __init__(self, widths: Widths, channels: int, scale: float, first_context: int) -> None:
        super().__init__(first_context)
        for _ in range(2):
            self.resnets.append(widths.resnet(channels, channels, scale))
            self.temp_convs.append(TemporalConvolution(channels, widths.groups))
        self.attentions.append(widths.spatial_transformer(channels))
        self.temp_attentions.append(widths.temporal_transformer(channels))

    def forward(self, x: Tensor, time: Tensor, context: list[Tensor]) -> Tensor:
        """x: (B, F, H, W, C), kept; time: (1, T). Gives (G, F, H, W, C)."""
        x = self.temp_convs[0](self.resnets[0](x, time))
        x = self.attentions[0](x, context[self.first_context], context[self.first_context + 1])
        x = self.temp_attentions[0](x)
        return self.temp_convs[1](self.resnets[1](x, time))


def lowest_frequencies(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the (size, size) projection onto frequencies 0 and -1 of the Fourier transform.

    Its entries are Σₖ exp(2πi·k·(n - m) / size) / size over k = 0, -1, which are one frequency where size is 1.
    """
    position = torch.arange(size, dtype=torch.float32, device=like.device)
    angles = (position.unsqueeze(1) - position.unsqueeze(0)) * (2 * math.pi / size)
    return (angles.cos() + (1.0 if size > 1 else 0.0)) / size, -angles.sin() / size


def scale_lowest_frequencies(x: Tensor, factor: float) -> Tensor:
    """FreeU's Fourier filter, in float32: scales frequencies 0 and -1 of height and width of x (B, F, H, W, C), kept.

    That is x + (factor - 1)·Re(P·x·Qᵀ) with the projections P on height and Q on width, so no transform is needed.
    """
    rows, rows_imaginary = lowest_frequencies(x.size(2), x)
    columns, columns_imaginary = lowest_frequencies(x.size(3), x)
    wide = x.float()
    low = torch.einsum("bfhwc,yh,xw->bfyxc", wide, rows, columns)
    low = low - torch.einsum("bfhwc,yh,xw->bfyxc", wide, rows_imaginary, columns_imaginary)
    return (wide + (factor - 1.0) * low).to(x.dtype)


def join(x: Tensor, skip: Tensor, factors: tuple[float, float]) -> Tensor:
    """Concatenates channels of x (G, F, H, W, C) and skip (G or B, F, H, W, C'), both kept.

    factors: FreeU's (Si et al. 2023, https://arxiv.org/abs/2309.11497) of the first half of x and of the skip's lowest
    frequencies; 1 leaves them as they are.
    """
    x_factor, skip_factor = factors
    if skip_factor != 1.0:
        skip = scale_lowest_frequencies(skip, skip_factor)
    if skip.size(0) == x.size(0):
        y = torch.cat([x, skip], -1)
    else:
        pairs = x.unflatten(0, [2, -1])
        y = torch.cat([pairs, skip.unsqueeze(0).expand(pairs.shape[:-1] + skip.shape[-1:])], -1).flatten(0, 1)
    if x_factor != 1.0:
        y[..., : x.size(-1) // 2].mul_(x_factor)
    return y


class UpBlock(Block):
    def __init__(
        self,
        widths: Widths,
        channels: int,
        skip_channels: list[int],
        out_channels: int,
        upsample: bool,
        first_context: int,
    ) -> None:
        """skip_channels: of the results of the way down that this block takes, in that order."""
        super().__init__(first_context)
        for layer, skip in enumerate(skip_channels):
            self.resnets.append(widths.resnet((channels if layer == 0 else out_channels) + skip, out_channels))
            self.temp_convs.append(TemporalConvolution(out_channels, widths.groups))
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if upsample else [])

    def forward(
        self, x: Tensor, time: Tensor, context: list[Tensor], skips: list[Tensor], factors: tuple[float, float]
    ) -> Tensor:
        """x: (G, F, H, W, C), kept; time: (1, T); takes from the end of `skips`; factors: see `join`."""
        for resnet, convolution in zip(self.resnets, self.temp_convs):
            x = convolution(resnet(join(x, skips.pop(), factors), time))
        for upsampler in self.upsamplers:
            x = upsampler(x, skips[-1].size(2), skips[-1].size(3))
        return x


class CrossAttentionUpBlock(UpBlock):
    def __init__(
        self,
        widths: Widths,
        channels: int,
        skip_channels: list[int],
        out_channels: int,
        upsample: bool,
        first_context: int,
    ) -> None:
        super().__init__(widths, channels, skip_channels, out_channels, upsample, first_context)
        for _ in skip_channels:
            self.attentions.append(widths.spatial_transformer(out_channels))
            self.temp_attentions.append(widths.temporal_transformer(out_channels))

    def forward(
        self, x: Tensor, time: Tensor, context: list[Tensor], skips: list[Tensor], factors: tuple[float, float]
    ) -> Tensor:
        """x: (G, F, H, W, C), kept; time: (1, T); takes from the end of `skips`; factors: see `join`."""
        index = self.first_context
        for resnet, convolution, attention, temporal in zip(
            self.resnets, self.temp_convs, self.attentions, self.temp_attentions
        ):
            x = convolution(resnet(join(x, skips.pop(), factors), time))
            x = temporal(attention(x, context[index], context[index + 1]))
            index += 2
        for upsampler in self.upsamplers:
            x = upsampler(x, skips[-1].size(2), skips[-1].size(3))
        return x


class TimeEmbedding(nn.Module):
    def __init__(self, channels: int, time_channels: int) -> None:
        super().__init__()
        self.linear_1 = Weights(time_channels, channels)
        self.linear_2 = Weights(time_channels, time_channels)

    def forward(self, timestep: Tensor) -> Tensor:
        """SiLU, which every resnet applies, of the embedding (1, T) of a timestep (scalar float32).

        The sinusoids (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762) are float32 whatever the weights are:
        cos and sin of timestep · 10000^(-i / (C/2)), cosines first, one zero after them where C is odd.
        """
        channels = self.linear_1.weight.size(1)
        half = channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep.float().reshape(1, 1) * torch.exp(steps * (-math.log(10000.0)) / half)
        x = F.pad(torch.cat([angles.cos(), angles.sin()], 1), [0, channels - 2 * half])
        x = F.linear(x.to(self.linear_1.weight.dtype), self.linear_1.weight, self.linear_1.bias)
        return F.silu(F.linear(F.silu(x), self.linear_2.weight, self.linear_2.bias))


class UNet3DConditionModel(nn.Module):
    """Predicts the noise in a video's latents from the timestep and the text.

    Call `prepare` once per prompt and `forward` once per step with what it gave.
    """

    groups: Final[int]
    eps: Final[float]
    stage_parameters: list[list[str]]

    def __init__(self, configuration: UNet3DConfiguration) -> None:
        super().__init__()
        outs = configuration.block_out_channels
        layers = configuration.layers_per_block
        self.groups = configuration.norm_num_groups
        self.eps = configuration.norm_eps
        widths = Widths(
            time=4 * outs[0],
            text=configuration.cross_attention_dim,
            head=configuration.attention_head_dim,
            groups=self.groups,
            eps=self.eps,
        )
        self.conv_in = Weights(outs[0], configuration.in_channels, 3, 3, packable=True)
        self.time_embedding = TimeEmbedding(outs[0], widths.time)
        self.transformer_in = TemporalTransformer(outs[0], 0, 8, widths.head, self.groups)

        context = 0
        skip_channels = [outs[0]]
        self.down_blocks = nn.ModuleList()
        for index, (kind, width) in enumerate(zip(configuration.down_block_types, outs)):
            down = CrossAttentionDownBlock if kind == "CrossAttnDownBlock3D" else DownBlock
            last = index == len(outs) - 1
            self.down_blocks.append(down(widths, skip_channels[-1], width, layers, not last, context))
            context += 2 * len(self.down_blocks[-1].attentions)
            skip_channels += [width] * (layers if last else layers + 1)

        self.mid_block = MidBlock(widths, outs[-1], configuration.mid_block_scale_factor, context)
        context += 2

        channels = outs[-1]
        self.up_blocks = nn.ModuleList()
        for index, (kind, width) in enumerate(zip(configuration.up_block_types, reversed(outs))):
            up = CrossAttentionUpBlock if kind == "CrossAttnUpBlock3D" else UpBlock
            taken = [skip_channels.pop() for _ in range(layers + 1)]
            self.up_blocks.append(up(widths, channels, taken, width, index < len(outs) - 1, context))
            context += 2 * len(self.up_blocks[-1].attentions)
            channels = width

        self.conv_norm_out = Weights(outs[0])
        self.conv_out = Weights(configuration.out_channels, outs[0], 3, 3)

        self.stage_parameters = [
            [name for name, _ in self.named_parameters() if re.search(r"\.attentions\..*\.attn2\.to_[kv]\.", name)],
            ["conv_in.", "time_embedding.", "transformer_in."],
            *([f"down_blocks.{index}."] for index in range(len(outs))),
            ["mid_block."],
            *([f"up_blocks.{index}."] for index in range(len(outs))),
            ["conv_norm_out.", "conv_out."],
        ]

    @torch.jit.export
    def prepare(self, text: Tensor) -> list[Tensor]:
        """text: hidden states (G, L, D) of the prompts, for guidance all negative ones first.

        Gives keys and values (G, heads, L, d) of every layer that attends to the text, shared by all steps and frames.
        """
        context: list[Tensor] = []
        for block in self.down_blocks:
            context.extend(block.prepare(text))
        context.extend(self.mid_block.prepare(text))
        for block in self.up_blocks:
            context.extend(block.prepare(text))
        return context

    @torch.jit.export
    def stages(self) -> list[list[str]]:
        """How parameters' names begin, by the stage that needs them: the longest beginning tells.

        Stage 0 is `prepare`, the others are `run_stage`'s.
        """
        return self.stage_parameters

    @torch.jit.export
    def run_stage(self, stage: int, state: list[Tensor], context: list[Tensor], freeu: list[float] | None) -> None:
        """One stage, from 1 on, of `forward`, so that a device need not hold the parameters of the others.

        state: a stack, [timestep, sample] before the first stage and [result] after the last; between them the time
        embedding, the skips, and on top what the next stage starts from.
        """
        x = state.pop()
        if stage == 1:
            time = self.time_embedding(state.pop())
            x = convolve(x.permute(0, 2, 3, 4, 1).contiguous(), self.conv_in.weight, self.conv_in.bias, 1, 1)
            x = self.transformer_in(x)
            state.append(time)
            state.append(x)
        for index, down in enumerate(self.down_blocks):
            if stage == 2 + index:
                x = down(x, state[0], context, state)
        if stage == 2 + len(self.down_blocks):
            x = self.mid_block(x, state[0], context)
        for index, up in enumerate(self.up_blocks):
            if stage == 3 + len(self.down_blocks) + index:
                factors = (1.0, 1.0)
                if freeu is not None and index < 2:
                    factors = (freeu[2 + index], freeu[index])
                x = up(x, state[0], context, state, factors)
        if stage == 3 + len(self.down_blocks) + len(self.up_blocks):
            state.clear()
            frames = x.flatten(0, 1)
            y = group_norm(frames, self.groups, self.conv_norm_out.weight, self.conv_norm_out.bias, self.eps, silu=True)
            y = convolve(y, self.conv_out.weight, self.conv_out.bias, 1, 1)
            x = y.view(x.shape[:-1] + y.shape[-1:]).permute(0, 4, 1, 2, 3).contiguous()
        state.append(x)

    def forward(
        self, sample: Tensor, timestep: Tensor, context: list[Tensor], freeu: list[float] | None = None
    ) -> Tensor:
        """sample: latents (B, 4, F, h, w); timestep: scalar float32; context: from `prepare`, for G = B or 2·B items.

        freeu: s1, s2, b1, b2, the factors of FreeU for the first two up blocks: s of the skips' lowest frequencies, b
        of what the skips join. Gives (G, 4, F, h, w). With G = 2·B (classifier-free guidance) items i and B + i share
        sample i.
        """
        state = [timestep, sample]
        for stage in range(1, len(self.stage_parameters)):
            self.run_stage(stage, state, context, freeu)
        return state.pop()
