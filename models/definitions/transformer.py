"""The transformers of the video UNet: within each frame and to the text, or between the frames."""

from typing import Final

import torch
from torch import Tensor, nn

from .layers import (
    Attention,
    Weights,
    add_linear,
    gated_linear,
    group_norm,
    layer_norm,
    linear,
    tokens_per_chunk,
)


class Gate(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = Weights(2 * out_channels, channels, packable=True)


class FeedForward(nn.Module):
    """Gated linear units (Shazeer 2020, https://arxiv.org/abs/2002.05202): W₃((W₁x + b₁) · gelu(W₂x + b₂)) + b₃.

    W₁ over W₂ is `net.0.proj`, W₃ is `net.2`; the inner width is four times the outer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleDict({"0": Gate(channels, 4 * channels), "2": Weights(channels, 4 * channels, packable=True)})

    def add_feed_forward(self, sum: Tensor, x: Tensor) -> None:
        """sum: (…, C), contiguous, to which the result is added; x: (…, C), kept."""
        hidden = gated_linear(x, self.net["0"].proj.weight, self.net["0"].proj.bias)
        add_linear(sum, hidden, self.net["2"].weight, self.net["2"].bias)


class TransformerBlock(nn.Module):
    """Self-attention, attention to `source_channels` wide tokens, feed-forward, each on a layer norm with residual."""

    def __init__(self, channels: int, source_channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = Weights(channels)
        self.attn1 = Attention(channels, channels, heads, False)
        self.norm2 = Weights(channels)
        self.attn2 = Attention(channels, source_channels, heads, False)
        self.norm3 = Weights(channels)
        self.ff = FeedForward(channels)

    def attend_to_itself(self, x: Tensor) -> None:
        """x: (N, T, C), overwritten."""
        y = layer_norm(x, self.norm1.weight, self.norm1.bias)
        self.attn1.add_attention(x, y, self.attn1.keys(y), self.attn1.values(y))

    def attend_to_itself_again(self, x: Tensor) -> None:
        """x: (N, T, C), overwritten."""
        y = layer_norm(x, self.norm2.weight, self.norm2.bias)
        self.attn2.add_attention(x, y, self.attn2.keys(y), self.attn2.values(y))

    def attend_to_source(self, x: Tensor, keys: Tensor, values: Tensor) -> None:
        """x: (N, T, C), overwritten; keys, values: (N, heads, S, d)."""
        y = layer_norm(x, self.norm2.weight, self.norm2.bias)
        self.attn2.add_attention(x, y, keys, values)

    def feed_forward(self, x: Tensor) -> None:
        """x: (…, C), overwritten."""
        self.ff.add_feed_forward(x, layer_norm(x, self.norm3.weight, self.norm3.bias))


class Transformer(nn.Module):
    """What spatial and temporal transformers have in common: their parameters."""

    groups: Final[int]
    eps: Final[float]

    def __init__(self, channels: int, source_channels: int, heads: int, head_dim: int, groups: int) -> None:
        """source_channels: width of the text, or 0 where the second attention is to the tokens themselves."""
        super().__init__()
        inner = heads * head_dim
        self.groups = groups
        self.eps = 1e-6  # fixed, whatever norm_eps is
        self.norm = Weights(channels)
        self.proj_in = Weights(inner, channels, packable=True)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(inner, source_channels or inner, heads)])
        self.proj_out = Weights(channels, inner, packable=True)


class SpatialTransformer(Transformer):
    """Attention within each frame, then from all positions to the text."""

    def keys(self, text: Tensor) -> Tensor:
        """text: (G, L, D); gives (G, heads, L, d)."""
        return self.transformer_blocks[0].attn2.keys(text).contiguous()

    def values(self, text: Tensor) -> Tensor:
        """text: (G, L, D); gives (G, heads, L, d)."""
        return self.transformer_blocks[0].attn2.values(text).contiguous()

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """x: (B, F, H, W, C), overwritten; keys, values: (G, heads, L, d). Gives (G, F, H, W, C).

        With G = 2·B the items are doubled where the text comes in: up to there both halves are equal.
        """
        block = self.transformer_blocks[0]
        frames = x.view(x.size(0) * x.size(1), -1, x.size(-1))
        y = group_norm(frames, self.groups, self.norm.weight, self.norm.bias, self.eps)
        y = linear(y, self.proj_in.weight, self.proj_in.bias)
        block.attend_to_itself(y)
        if keys.size(0) != x.size(0):
            x = torch.cat([x, x])
            y = torch.cat([y, y])
        block.attend_to_source(y.view(keys.size(0), -1, y.size(-1)), keys, values)
        tokens = y.view(-1, y.size(-1))
        output = x.view(-1, x.size(-1))
        step = tokens_per_chunk(x, 4 * tokens.size(1))
        for start in range(0, tokens.size(0), step):
            chunk = tokens[start : start + step]
            block.feed_forward(chunk)
            add_linear(output[start : start + step], chunk, self.proj_out.weight, self.proj_out.bias)
        return x


class TemporalTransformer(Transformer):
    """Attention between the frames, for each position by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, F, H, W, C), overwritten."""
        block = self.transformer_blocks[0]
        video = x.view(x.size(0), x.size(1), -1, x.size(-1))
        normed = group_norm(video, self.groups, self.norm.weight, self.norm.bias, self.eps)
        # 32768: attention on a GPU fails from 65536 sequences on.
        step = min(32768, max(1, tokens_per_chunk(x, 4 * self.proj_in.bias.size(0)) // x.size(1)))
        for item in range(video.size(0)):
            for start in range(0, video.size(2), step):
                # (F, P, C) to (P, F, C): the positions are the batch.
                positions = normed[item, :, start : start + step].transpose(0, 1)
                y = linear(positions, self.proj_in.weight, self.proj_in.bias)
                block.attend_to_itself(y)
                block.attend_to_itself_again(y)
                block.feed_forward(y)
                output = video[item, :, start : start + step].transpose(0, 1)
                add_linear(output, y, self.proj_out.weight, self.proj_out.bias)
        return x
