"""The transformer of Wan 2.1 text to video: self-attention over all tokens of a video, and attention to the text."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration import UnsupportedConfiguration, read_configuration, require, require_class
from ..layers import UnbiasedWeights, Weights, add_linear, attend, linear, tokens_per_chunk
from .layers import linear_gelu_tanh, rms_norm

@dataclass(frozen=True)
class WanTransformer3DConfiguration:
    """The keys of transformer/config.json that determine the graph, with diffusers' defaults."""

    patch_size: tuple[int, ...] = (1, 2, 2)
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 13824
    num_layers: int = 40
    cross_attn_norm: bool = True
    qk_norm: str = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: None = None
    added_kv_proj_dim: None = None

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "WanTransformer3DConfiguration":
        """Raises UnsupportedConfiguration, naming the key."""
        require_class("transformer", config, "_class_name", "WanTransformer3DModel")
        configuration = read_configuration(WanTransformer3DConfiguration, "transformer", config)
        require("transformer", "cross_attn_norm", configuration.cross_attn_norm, (True,))
        require("transformer", "qk_norm", configuration.qk_norm, ("rms_norm_across_heads",))
        if len(configuration.patch_size) != 3 or min(configuration.patch_size) < 1:
            raise UnsupportedConfiguration(
                "transformer", "patch_size", "three sizes: frames, height, width", configuration.patch_size
            )
        if configuration.attention_head_dim < 6 or configuration.attention_head_dim % 2:
            raise UnsupportedConfiguration(
                "transformer", "attention_head_dim", "an even number from 6 on", configuration.attention_head_dim
            )
        if configuration.freq_dim < 2 or configuration.freq_dim % 2:
            raise UnsupportedConfiguration("transformer", "freq_dim", "an even number", configuration.freq_dim)
        return configuration


class TimestepEmbedder(nn.Module):
    def __init__(self, frequencies: int, channels: int) -> None:
        super().__init__()
        self.linear_1 = Weights(channels, frequencies)
        self.linear_2 = Weights(channels, channels)

    def forward(self, timestep: Tensor) -> Tensor:
        """The embedding (1, D), in the parameters' dtype, of a timestep (scalar float32).

        The sinusoids (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762) are float32 whatever the weights are:
        cos and sin of timestep · 10000^(-i / (C/2)), cosines first.
        """
        half = self.linear_1.weight.size(1) // 2
        steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep.float().reshape(1, 1) * torch.exp(steps * (-math.log(10000.0)) / half)
        x = torch.cat([angles.cos(), angles.sin()], 1).to(self.linear_1.weight.dtype)
        x = F.silu(F.linear(x, self.linear_1.weight, self.linear_1.bias))
        return F.linear(x, self.linear_2.weight, self.linear_2.bias)


class TextEmbedder(nn.Module):
    def __init__(self, text_channels: int, channels: int) -> None:
        super().__init__()
        self.linear_1 = Weights(channels, text_channels)
        self.linear_2 = Weights(channels, channels)

    def forward(self, text: Tensor) -> Tensor:
        """text: (G, L, text_channels); gives (G, L, D)."""
        x = linear_gelu_tanh(text, self.linear_1.weight, self.linear_1.bias)
        return linear(x, self.linear_2.weight, self.linear_2.bias)


class ConditionEmbedder(nn.Module):
    def __init__(self, configuration: WanTransformer3DConfiguration, channels: int) -> None:
        super().__init__()
        self.time_embedder = TimestepEmbedder(configuration.freq_dim, channels)
        self.time_proj = Weights(6 * channels, channels)
        self.text_embedder = TextEmbedder(configuration.text_dim, channels)

    def modulation(self, time: Tensor) -> Tensor:
        """time: (1, D), from `time_embedder`; gives the numbers (1, 6, D) that every block shifts and scales with."""
        return linear(F.silu(time), self.time_proj.weight, self.time_proj.bias).view(1, 6, -1)


def axis_angles(positions: int, dim: int, device: torch.device) -> Tensor:
    """position · 10000^(-2i / dim) in float64: (positions, dim / 2)."""
    steps = torch.arange(0, dim, 2, dtype=torch.float64, device=device)
    frequencies = 1.0 / torch.pow(10000.0, steps / dim)
    return torch.outer(torch.arange(positions, device=device), frequencies)


def rotations(frames: int, height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864) of the tokens of a video.

    Gives e^(i·angle) (frames·height·width, 1, dim / 2) complex64 for heads of `dim` channels: a third of the pairs of
    channels turns with the row, a third with the column and the rest with the frame, which comes first.
    """
    side = 2 * (dim // 6)
    shape = [frames, height, width, -1]
    angles = torch.cat(
        [
            axis_angles(frames, dim - 2 * side, device).view(frames, 1, 1, -1).expand(shape),
            axis_angles(height, side, device).view(1, height, 1, -1).expand(shape),
            axis_angles(width, side, device).view(1, 1, width, -1).expand(shape),
        ],
        -1,
    )
    angles = angles.reshape(frames * height * width, 1, dim // 2)
    return torch.complex(angles.cos().float(), angles.sin().float())


def add_gated(x: Tensor, y: Tensor, gate: Tensor) -> None:
    """x += y·gate in float32, rounded once. x: (…, D), overwritten; y: (…, D); gate: (D) float32."""
    if x.dtype == torch.float32:
        x.addcmul_(y, gate)
    else:
        x.copy_(torch.addcmul(x.float(), y.float(), gate))


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Layer norm · (1 + scale) + shift in float32, rounded once. x: (…, D), kept; shift, scale: (D) float32."""
    return F.layer_norm(x.float(), [x.size(-1)], 1 + scale, shift, eps).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention, softmax(Q·Kᵀ/√d)·V; an RMS norm over all heads comes before queries and keys are split."""

    heads: Final[int]
    eps: Final[float]

    def __init__(self, channels: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.eps = eps
        self.to_q = Weights(channels, channels, packable=True)
        self.to_k = Weights(channels, channels, packable=True)
        self.to_v = Weights(channels, channels, packable=True)
        self.norm_q = UnbiasedWeights(channels)
        self.norm_k = UnbiasedWeights(channels)
        self.to_out = nn.ModuleDict({"0": Weights(channels, channels, packable=True)})

    def split_heads(self, x: Tensor) -> Tensor:
        """(N, T, heads·d) as (N, heads, T, d), a view."""
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def keys(self, source: Tensor) -> Tensor:
        """source: (N, S, D); gives (N, heads, S, d)."""
        keys = linear(source, self.to_k.weight, self.to_k.bias)
        return self.split_heads(rms_norm(keys, self.norm_k.weight, self.eps))

    def values(self, source: Tensor) -> Tensor:
        """source: (N, S, D); gives (N, heads, S, d)."""
        return self.split_heads(linear(source, self.to_v.weight, self.to_v.bias))

    def turn(self, x: Tensor, norm: Tensor, rotation: Tensor) -> Tensor:
        """RMS norm, then rotation of neighbouring channels in float32.

        x: (N, T, D), overwritten; norm: its weight; rotation: (T, 1, d / 2) complex64. Gives (N, heads, T, d).
        """
        step = tokens_per_chunk(x, 4 * x.size(2))
        for start in range(0, x.size(1), step):
            tokens = x[:, start : start + step]
            y = rms_norm(tokens, norm, self.eps).float().unflatten(2, [self.heads, -1, 2])
            y = torch.view_as_real(torch.view_as_complex(y) * rotation[start : start + step])
            tokens.copy_(y.flatten(2))
        return self.split_heads(x)

    def attend_to_itself(self, x: Tensor, rotation: Tensor) -> Tensor:
        """x: (N, T, D), kept; rotation: (T, 1, d / 2) complex64."""
        queries = self.turn(linear(x, self.to_q.weight, self.to_q.bias), self.norm_q.weight, rotation)
        keys = self.turn(linear(x, self.to_k.weight, self.to_k.bias), self.norm_k.weight, rotation)
        y = attend(queries, keys, self.values(x))
        return linear(y, self.to_out["0"].weight, self.to_out["0"].bias)

    def add_attention_to_text(self, sum: Tensor, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> None:
        """sum: (N, T, D), contiguous, to which the result is added; x: (N, T, D), kept.

        keys, values: (N, heads, S, d); bias: (N, 1, 1, S), added to the scores.
        """
        queries = linear(x, self.to_q.weight, self.to_q.bias)
        queries = self.split_heads(rms_norm(queries, self.norm_q.weight, self.eps))
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias).transpose(1, 2).flatten(2)
        add_linear(sum, y, self.to_out["0"].weight, self.to_out["0"].bias)


class Activation(nn.Module):
    def __init__(self, channels: int, inner_channels: int) -> None:
        super().__init__()
        self.proj = Weights(inner_channels, channels, packable=True)


class FeedForward(nn.Module):
    def __init__(self, channels: int, inner_channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleDict(
            {"0": Activation(channels, inner_channels), "2": Weights(channels, inner_channels, packable=True)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, D), kept."""
        hidden = linear_gelu_tanh(x, self.net["0"].proj.weight, self.net["0"].proj.bias)
        return linear(hidden, self.net["2"].weight, self.net["2"].bias)


class Block(nn.Module):
    """Self-attention, attention to the text and feed-forward. The timestep shifts, scales and gates first and last."""

    eps: Final[float]

    def __init__(self, channels: int, inner_channels: int, heads: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.attn1 = Attention(channels, heads, eps)
        self.attn2 = Attention(channels, heads, eps)
        self.norm2 = Weights(channels)
        self.ffn = FeedForward(channels, inner_channels)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, channels))

    def forward(
        self, x: Tensor, modulation: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, bias: Tensor
    ) -> Tensor:
        """x: (B, T, D), overwritten; modulation: (1, 6, D); rotation: (T, 1, d / 2) complex64.

        keys, values: of the text, (G, heads, S, d); bias: (G, 1, 1, S). Gives (G, T, D): with G = 2·B the items are
        doubled where the text comes in, as both halves are equal up to there.
        """
        rows = (self.scale_shift_table.float() + modulation.float()).squeeze(0)
        y = modulated_norm(x, rows[0], rows[1], self.eps)
        add_gated(x, self.attn1.attend_to_itself(y, rotation), rows[2])
        if keys.size(0) != x.size(0):
            x = torch.cat([x, x])
        y = F.layer_norm(x.float(), [x.size(-1)], self.norm2.weight.float(), self.norm2.bias.float(), self.eps)
        self.attn2.add_attention_to_text(x, y.to(x.dtype), keys, values, bias)
        tokens = x.view(-1, x.size(-1))
        step = tokens_per_chunk(x, self.ffn.net["0"].proj.weight.size(0))
        for start in range(0, tokens.size(0), step):
            chunk = tokens[start : start + step]
            add_gated(chunk, self.ffn(modulated_norm(chunk, rows[3], rows[4], self.eps)), rows[5])
        return x


class WanTransformer3DModel(nn.Module):
    """Predicts the flow from noise to a video's latents, from the timestep and the text.

    Call `prepare` once per prompt and `forward` once per step with what it gave.
    """

    patch_size: Final[tuple[int, int, int]]
    head_dim: Final[int]
    out_channels: Final[int]
    eps: Final[float]
    stage_parameters: list[list[str]]

    def __init__(self, configuration: WanTransformer3DConfiguration) -> None:
        super().__init__()
        frames, height, width = configuration.patch_size
        heads, self.head_dim = configuration.num_attention_heads, configuration.attention_head_dim
        channels = heads * self.head_dim
        self.patch_size = (frames, height, width)
        self.out_channels = configuration.out_channels
        self.eps = configuration.eps
        self.patch_embedding = Weights(channels, configuration.in_channels, frames, height, width)
        self.condition_embedder = ConditionEmbedder(configuration, channels)
        self.blocks = nn.ModuleList(
            Block(channels, configuration.ffn_dim, heads, self.eps) for _ in range(configuration.num_layers)
        )
        self.proj_out = Weights(configuration.out_channels * frames * height * width, channels)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, channels))
        names = [name for name, _ in self.named_parameters()]
        self.stage_parameters = [
            ["condition_embedder.text_embedder."]
            + [name for name in names if re.search(r"\.attn2\.(to_k|to_v|norm_k)\.", name)],
            ["patch_embedding.", "condition_embedder.time_embedder.", "condition_embedder.time_proj."],
            *([f"blocks.{index}."] for index in range(configuration.num_layers)),
            ["proj_out.", "scale_shift_table"],
        ]

    @torch.jit.export
    def prepare(self, text: Tensor, lengths: list[int], positions: int) -> list[Tensor]:
        """text: hidden states (G, L, text_dim) of the prompts, for guidance all negative ones first.

        lengths: how many of the L are real, for each prompt; the others are not read. positions: what each prompt was
        trained to be padded to, with zeros; L at most.

        Gives [bias, keys, values, keys, …], for all steps: a bias (G, 1, 1, S) of the scores, and keys and values
        (G, heads, S, d) of every block, with S = L + 2. All padding has one key and one value. n times the same key
        weigh as one with ln(n) more of a score; it stands there twice, so that their sum has that weight to a few
        parts in 10⁴ where the bias is rounded to a half-precision number.
        """
        lacking = torch.zeros([text.size(0), 2, text.size(2)], dtype=text.dtype, device=text.device)
        bias = torch.full([text.size(0), 1, 1, text.size(1) + 2], -math.inf, dtype=text.dtype, device=text.device)
        for item, length in enumerate(lengths):
            bias[item, 0, 0, :length] = 0.0
            padding = positions - length
            if padding > 0:
                most = torch.tensor(math.log(padding) - 0.02, dtype=torch.float64).to(text.dtype).item()
                bias[item, 0, 0, -2] = most
                bias[item, 0, 0, -1] = math.log(padding - math.exp(float(most)))
        source = self.condition_embedder.text_embedder(torch.cat([text, lacking], 1))
        context = [bias]
        for block in self.blocks:
            context.append(block.attn2.keys(source).contiguous())
            context.append(block.attn2.values(source).contiguous())
        return context

    @torch.jit.export
    def stages(self) -> list[list[str]]:
        """How parameters' names begin, by the stage that needs them: the longest beginning tells.

        Stage 0 is `prepare`, the others are `run_stage`'s.
        """
        return self.stage_parameters

    def patches(self, sample: Tensor) -> Tensor:
        """sample: (B, C, F, H, W); gives (B, frames, height, width, C·patch), a patch's columns fastest."""
        frames, height, width = self.patch_size
        b, c, f, h, w = sample.shape
        x = sample.reshape(b, c, f // frames, frames, h // height, height, w // width, width)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    def video(self, x: Tensor) -> Tensor:
        """x: (G, frames, height, width, patch·C), channels fastest; gives (G, C, F, H, W)."""
        frames, height, width = self.patch_size
        g, f, h, w, _ = x.shape
        y = x.view(g, f, h, w, frames, height, width, self.out_channels).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return y.reshape(g, self.out_channels, f * frames, h * height, w * width)

    @torch.jit.export
    def run_stage(self, stage: int, state: list[Tensor], context: list[Tensor]) -> None:
        """One stage, from 1 on, of `forward`, so that a device need not hold the parameters of the others.

        state: [timestep, sample] before the first stage and [result] after the last; between them [time embedding,
        modulation, rotations, tokens (B or G, frames, height, width, D)].
        """
        x = state.pop()
        if stage == 1:
            time = self.condition_embedder.time_embedder(state.pop()).to(x.dtype)
            x = linear(self.patches(x), self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
            state.append(time)
            state.append(self.condition_embedder.modulation(time))
            state.append(rotations(x.size(1), x.size(2), x.size(3), self.head_dim, x.device))
        for index, block in enumerate(self.blocks):
            if stage == 2 + index:
                tokens = block(
                    x.flatten(1, 3), state[1], state[2], context[2 * index + 1], context[2 * index + 2], context[0]
                )
                x = tokens.view([tokens.size(0)] + x.shape[1:])
        if stage == 2 + len(self.blocks):
            rows = (self.scale_shift_table.float() + state[0].float()).squeeze(0)
            state.clear()
            x = modulated_norm(x, rows[0], rows[1], self.eps)
            x = self.video(linear(x, self.proj_out.weight, self.proj_out.bias))
        state.append(x)

    def forward(self, sample: Tensor, timestep: Tensor, context: list[Tensor]) -> Tensor:
        """sample: latents (B, C, F, H, W); timestep: scalar float32; context: from `prepare`, for G = B or 2·B items.

        Gives (G, C, F, H, W). With G = 2·B (classifier-free guidance) items i and B + i share sample i.
        """
        state = [timestep, sample]
        for stage in range(1, len(self.stage_parameters)):
            self.run_stage(stage, state, context)
        return state.pop()
