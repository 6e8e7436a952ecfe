"""Layers that the networks share.

Every activation is token-major: channels last in memory and in shape, (N, H, W, C) for images and (B, F, H, W, C) for
video. Seen through `permute` that is PyTorch's channels_last layout, so convolution, attention and linear layers take
turns on one memory without copies. Layers that say so overwrite their input; parameters are only ever read.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import operators  # noqa: F401  declares torch.ops.torchreel


class Weights(nn.Module):
    """A published weight and bias under their names; the operation stands where they are used.

    One TorchScript type serves all shapes, which keeps the exported graphs small.

    packable: whether the weight is only used by layers that also take it as the core packs it in bfloat16 on a CPU.
    """

    weight: Tensor
    bias: Tensor
    packable: bool

    def __init__(self, *shape: int, packable: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0]))
        self.packable = packable


class UnbiasedWeights(nn.Module):
    """A published weight that comes without a bias."""

    weight: Tensor
    bias: None
    packable: bool

    def __init__(self, *shape: int, packable: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = None
        self.packable = packable


def computes_on_cpu(x: Tensor) -> bool:
    """Whether to call what is made for a CPU by name: operators in float32 and bfloat16, without a derivative."""
    return not x.is_cuda and not torch.is_grad_enabled() and (x.dtype == torch.float32 or x.dtype == torch.bfloat16)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x·Wᵀ + b for x (…, C) and W (O, C) or (O, C, 1, 1), packed or not."""
    if computes_on_cpu(x):
        return torch.ops.torchreel.linear(x, weight, bias)
    # With gaps between the rows, libtorch would round the sum before it adds the bias.
    return F.linear(x.contiguous(), weight.flatten(1), bias)


def add_linear(sum: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """sum += x·Wᵀ + b for sum (…, O), x (…, C) and W (O, C) or (O, C, 1, 1), packed or not."""
    if computes_on_cpu(x):
        torch.ops.torchreel.add_linear(sum, x, weight, bias)
    else:
        sum.add_(linear(x, weight, bias))


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(x·W₁ᵀ + b₁)·gelu(x·W₂ᵀ + b₂) for x (…, C) and W (2·O, C), W₁ over W₂, packed or not."""
    if computes_on_cpu(x):
        return torch.ops.torchreel.gated_linear(x, weight, bias)
    inner = weight.size(0) // 2
    hidden = F.linear(x, weight[:inner], bias[:inner])
    return hidden.mul_(torch.ops.aten.gelu_(F.linear(x, weight[inner:], bias[inner:])))


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """2-D convolution of (…, H, W, C) with a weight (O, C, k, k): (…, H', W', O)."""
    images = x.flatten(0, -4)
    if computes_on_cpu(x) and stride == 1 and padding == 1:  # 3 × 3
        y = torch.ops.torchreel.convolve_3x3(images, weight, bias)
    else:
        y = F.conv2d(images.permute(0, 3, 1, 2), weight, bias, [stride, stride], [padding, padding])
        y = y.permute(0, 2, 3, 1).contiguous()
    return y.view(x.shape[:-3] + y.shape[1:])


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool = False) -> Tensor:
    """Group norm of (N, …, C): statistics over all positions of an item and the channels of a group; then SiLU."""
    if computes_on_cpu(x):
        return torch.ops.torchreel.group_norm(x, groups, weight, bias, eps, silu)
    planes = x.reshape(x.size(0), -1, 1, x.size(-1)).permute(0, 3, 1, 2)
    y = F.group_norm(planes, groups, weight, bias, eps).permute(0, 2, 3, 1).reshape(x.shape)
    return F.silu(y, inplace=True) if silu else y


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q·Kᵀ/√d)·V of queries (N, heads, T, d), keys and values (N, heads, S, d): (N, T, heads·d)."""
    if computes_on_cpu(queries):
        return torch.ops.torchreel.attention(queries, keys, values).flatten(2)
    return F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    if computes_on_cpu(x):
        return torch.ops.torchreel.layer_norm(x, weight, bias, eps)
    return F.layer_norm(x, [x.size(-1)], weight, bias, eps)


def tokens_per_chunk(x: Tensor, channels: int) -> int:
    """How many tokens to take at a time through layers that are `channels` wide at their widest.

    On the CPU: intermediate results that stay in the cache, and in memory that malloc hands out again, where whole ones
    would be mapped, cleared and unmapped on every call. On a GPU: a bound on memory only.
    """
    if x.is_cuda:
        return max(1024, (1 << 28) // channels)
    return max(256, (1 << 20) // channels)


class ResnetBlock(nn.Module):
    """y = (shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x))) + time)))) / output_scale_factor."""

    groups: Final[int]
    eps: Final[float]
    output_scale_factor: Final[float]

    def __init__(
        self, channels: int, out_channels: int, time_channels: int, groups: int, eps: float, output_scale_factor: float
    ) -> None:
        """time_channels: width of the time embedding; 0 for a network without one."""
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.output_scale_factor = output_scale_factor
        self.norm1 = Weights(channels)
        self.conv1 = Weights(out_channels, channels, 3, 3, packable=True)
        self.time_emb_proj = Weights(out_channels, time_channels) if time_channels else None
        self.norm2 = Weights(out_channels)
        self.conv2 = Weights(out_channels, out_channels, 3, 3, packable=True)
        shortcut = channels != out_channels
        self.conv_shortcut = Weights(out_channels, channels, 1, 1, packable=True) if shortcut else None

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """x: (…, H, W, C), kept; time: SiLU of the time embedding (1, T), the same for all items."""
        images = x.flatten(0, -4)
        y = group_norm(images, self.groups, self.norm1.weight, self.norm1.bias, self.eps, silu=True)
        bias = self.conv1.bias
        if self.time_emb_proj is not None and time is not None:
            bias = bias + F.linear(time, self.time_emb_proj.weight, self.time_emb_proj.bias).squeeze(0)
        y = convolve(y, self.conv1.weight, bias, 1, 1)
        y = group_norm(y, self.groups, self.norm2.weight, self.norm2.bias, self.eps, silu=True)
        y = convolve(y, self.conv2.weight, self.conv2.bias, 1, 1)
        if self.conv_shortcut is not None:
            add_linear(y, images, self.conv_shortcut.weight, self.conv_shortcut.bias)
        else:
            y.add_(images)
        if self.output_scale_factor != 1.0:
            y.div_(self.output_scale_factor)
        return y.view(x.shape[:-1] + y.shape[-1:])


class Downsample(nn.Module):
    """Halves height and width: 3 × 3 convolution with stride 2.

    padding 1: on all sides. padding 0: one row and column of zeros at the bottom and right only.
    """

    padding: Final[int]

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.conv = Weights(channels, channels, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, H, W, C), kept."""
        if self.padding == 0:
            x = F.pad(x, [0, 0, 0, 1, 0, 1])
        return convolve(x, self.conv.weight, self.conv.bias, 2, self.padding)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling to twice the size, cropped to (height, width), then a 3 × 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Weights(channels, channels, 3, 3, packable=True)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """x: (…, H, W, C), kept; height: 2·H or 2·H - 1; width: 2·W or 2·W - 1."""
        images = x.flatten(0, -4)
        if computes_on_cpu(x):
            y = torch.ops.torchreel.upsample_and_convolve(images, self.conv.weight, self.conv.bias, height, width)
        else:
            n, h, w, c = images.shape
            images = images.reshape(n, h, 1, w, 1, c).expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c)
            y = convolve(images[:, :height, :width].contiguous(), self.conv.weight, self.conv.bias, 1, 1)
        return y.view(x.shape[:-3] + y.shape[-3:])


class Attention(nn.Module):
    """Multi-head attention, softmax(Q·Kᵀ/√d)·V, with an output projection."""

    heads: Final[int]

    def __init__(self, channels: int, source_channels: int, heads: int, bias: bool) -> None:
        """source_channels: width of what keys and values are made from; bias: on queries, keys and values."""
        super().__init__()
        self.heads = heads
        kind = Weights if bias else UnbiasedWeights
        self.to_q = kind(channels, channels, packable=True)
        self.to_k = kind(channels, source_channels, packable=True)
        self.to_v = kind(channels, source_channels, packable=True)
        self.to_out = nn.ModuleDict({"0": Weights(channels, channels, packable=True)})

    def split_heads(self, x: Tensor) -> Tensor:
        """(N, T, heads·d) as (N, heads, T, d), a view."""
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def keys(self, source: Tensor) -> Tensor:
        """source: (N, S, source_channels); gives (N, heads, S, d)."""
        return self.split_heads(linear(source, self.to_k.weight, self.to_k.bias))

    def values(self, source: Tensor) -> Tensor:
        """source: (N, S, source_channels); gives (N, heads, S, d)."""
        return self.split_heads(linear(source, self.to_v.weight, self.to_v.bias))

    def add_attention(self, sum: Tensor, x: Tensor, keys: Tensor, values: Tensor) -> None:
        """sum: (N, T, channels), contiguous, to which the result is added; x: (N, T, channels), kept.

        keys, values: (N, heads, S, d).
        """
        queries = self.split_heads(linear(x, self.to_q.weight, self.to_q.bias))
        add_linear(sum, attend(queries, keys, values), self.to_out["0"].weight, self.to_out["0"].bias)
