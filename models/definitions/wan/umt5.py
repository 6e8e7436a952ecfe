"""UMT5's encoder (Chung et al. 2023, https://arxiv.org/abs/2304.09151): token embeddings to hidden states."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration import UnsupportedConfiguration, read_configuration, require, require_class
from ..layers import UnbiasedWeights, linear
from .layers import linear_gelu_tanh, rms_norm


@dataclass(frozen=True)
class UMT5Configuration:
    """The keys of text_encoder/config.json that determine the graph, with transformers' defaults."""

    vocab_size: int = 250112
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "UMT5Configuration":
        """Raises UnsupportedConfiguration, naming the key."""
        require_class("text_encoder", config, "model_type", "umt5")
        configuration = read_configuration(UMT5Configuration, "text_encoder", config)
        require("text_encoder", "feed_forward_proj", configuration.feed_forward_proj, ("gated-gelu",))
        buckets, distance = (
            configuration.relative_attention_num_buckets,
            configuration.relative_attention_max_distance,
        )
        if buckets < 4 or buckets % 4:
            raise UnsupportedConfiguration("text_encoder", "relative_attention_num_buckets", "a multiple of 4", buckets)
        if distance <= buckets // 4:
            raise UnsupportedConfiguration(
                "text_encoder", "relative_attention_max_distance", f"more than {buckets // 4}", distance
            )
        return configuration


def position_buckets(length: int, count: int, most_distant: int, device: torch.device) -> Tensor:
    """The bucket of each key's distance to each query: (L, L) int64 below `count`, queries first.

    Half of the buckets are for keys after the query. Of each half, one half is for one distance each, and the other
    for ranges that grow with the logarithm of the distance, up to `most_distant`.
    """
    positions = torch.arange(length, device=device)
    distance = positions.unsqueeze(0) - positions.unsqueeze(1)
    half = count // 2
    exact = half // 2
    size = distance.abs()
    ranges = torch.log(size.to(torch.float32) / exact) / math.log(most_distant / exact) * (half - exact)
    # Distance 0 has the logarithm -inf, and takes the other branch.
    far = exact + ranges.clamp(0, half - 1 - exact).to(torch.int64)
    return (distance > 0).to(torch.int64) * half + torch.where(size < exact, size, far)


class SelfAttention(nn.Module):
    """softmax(Q·Kᵀ + bias)·V with a bias for each distance and head. The scores are not divided by √d."""

    heads: Final[int]
    most_distant: Final[int]

    def __init__(self, configuration: UMT5Configuration) -> None:
        super().__init__()
        channels, inner = configuration.d_model, configuration.num_heads * configuration.d_kv
        self.heads = configuration.num_heads
        self.most_distant = configuration.relative_attention_max_distance
        self.q = UnbiasedWeights(inner, channels)
        self.k = UnbiasedWeights(inner, channels)
        self.v = UnbiasedWeights(inner, channels)
        self.o = UnbiasedWeights(channels, inner)
        self.relative_attention_bias = UnbiasedWeights(configuration.relative_attention_num_buckets, self.heads)

    def split_heads(self, x: Tensor) -> Tensor:
        """(T, heads·d) as (1, heads, T, d), a view."""
        return x.view(1, x.size(0), self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """x: (T, D), kept: the tokens of all prompts, one prompt after the other; lengths: tokens of each prompt."""
        queries = self.split_heads(linear(x, self.q.weight, self.q.bias))
        keys = self.split_heads(linear(x, self.k.weight, self.k.bias))
        values = self.split_heads(linear(x, self.v.weight, self.v.bias))
        table = self.relative_attention_bias.weight
        prompts: list[Tensor] = []
        start = 0
        for length in lengths:
            buckets = position_buckets(length, table.size(0), self.most_distant, x.device)
            bias = table.t().index_select(1, buckets.flatten()).view(1, self.heads, length, length)
            y = F.scaled_dot_product_attention(
                queries[:, :, start : start + length],
                keys[:, :, start : start + length],
                values[:, :, start : start + length],
                attn_mask=bias,
                scale=1.0,
            )
            prompts.append(y.squeeze(0).transpose(0, 1).flatten(1))
            start += length
        return linear(torch.cat(prompts), self.o.weight, self.o.bias)


class AttentionLayer(nn.Module):
    eps: Final[float]

    def __init__(self, configuration: UMT5Configuration) -> None:
        super().__init__()
        self.eps = configuration.layer_norm_epsilon
        self.SelfAttention = SelfAttention(configuration)
        self.layer_norm = UnbiasedWeights(configuration.d_model)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        return x + self.SelfAttention(rms_norm(x, self.layer_norm.weight, self.eps), lengths)


class GatedLinear(nn.Module):
    """Gated linear units (Shazeer 2020, https://arxiv.org/abs/2002.05202): Wₒ(gelu(W₀x) · W₁x)."""

    def __init__(self, channels: int, inner_channels: int) -> None:
        super().__init__()
        self.wi_0 = UnbiasedWeights(inner_channels, channels)
        self.wi_1 = UnbiasedWeights(inner_channels, channels)
        self.wo = UnbiasedWeights(channels, inner_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = linear_gelu_tanh(x, self.wi_0.weight, self.wi_0.bias)
        hidden.mul_(linear(x, self.wi_1.weight, self.wi_1.bias))
        return linear(hidden, self.wo.weight, self.wo.bias)


class FeedForwardLayer(nn.Module):
    eps: Final[float]

    def __init__(self, configuration: UMT5Configuration) -> None:
        super().__init__()
        self.eps = configuration.layer_norm_epsilon
        self.DenseReluDense = GatedLinear(configuration.d_model, configuration.d_ff)
        self.layer_norm = UnbiasedWeights(configuration.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(rms_norm(x, self.layer_norm.weight, self.eps))


class Block(nn.Module):
    def __init__(self, configuration: UMT5Configuration) -> None:
        super().__init__()
        self.layer = nn.ModuleDict({"0": AttentionLayer(configuration), "1": FeedForwardLayer(configuration)})

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        return self.layer["1"](self.layer["0"](x, lengths))


class Encoder(nn.Module):
    def __init__(self, configuration: UMT5Configuration) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(configuration) for _ in range(configuration.num_layers))
        self.final_layer_norm = UnbiasedWeights(configuration.d_model)


class UMT5EncoderModel(nn.Module):
    """The text encoder. Only real tokens go through it: padding does not change their hidden states.

    The rows of `shared.weight`, the table of embeddings, are gathered by the caller, so that the table need not be
    where the network computes.
    """

    eps: Final[float]
    stage_parameters: list[list[str]]

    def __init__(self, configuration: UMT5Configuration) -> None:
        super().__init__()
        self.eps = configuration.layer_norm_epsilon
        self.shared = UnbiasedWeights(configuration.vocab_size, configuration.d_model)
        self.encoder = Encoder(configuration)
        self.stage_parameters = [
            ["shared."],
            *([f"encoder.block.{index}."] for index in range(configuration.num_layers)),
        ]
        self.stage_parameters[-1].append("encoder.final_layer_norm.")

    @torch.jit.export
    def stages(self) -> list[list[str]]:
        """How parameters' names begin, by the stage that needs them: the longest beginning tells.

        Stage 0 is the table of embeddings, the others are `run_stage`'s.
        """
        return self.stage_parameters

    @torch.jit.export
    def run_stage(self, stage: int, state: list[Tensor], lengths: list[int]) -> None:
        """One stage, from 1 on, of `forward`, so that a device need not hold the parameters of the others.

        state: [embeddings] (T, D) before the first stage, [hidden states] (T, D) after the last; lengths: tokens of
        each prompt, T together.
        """
        x = state.pop()
        for index, block in enumerate(self.encoder.block):
            if stage == 1 + index:
                x = block(x, lengths)
        if stage == len(self.encoder.block):
            x = rms_norm(x, self.encoder.final_layer_norm.weight, self.eps)
        state.append(x)

    def forward(self, embeddings: Tensor, lengths: list[int]) -> Tensor:
        """Hidden states (T, D) after the final norm, of embeddings (T, D): all prompts' tokens, one after the other."""
        state = [embeddings]
        for stage in range(1, len(self.stage_parameters)):
            self.run_stage(stage, state, lengths)
        return state.pop()
