"""The text encoder of CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020): token ids to hidden states."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import UnsupportedConfiguration, read_configuration, require, require_class
from .layers import Weights, layer_norm


@dataclass(frozen=True)
class CLIPTextConfiguration:
    """The keys of text_encoder/config.json that determine the graph, with transformers' defaults."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "CLIPTextConfiguration":
        """Raises UnsupportedConfiguration, naming the key."""
        require_class("text_encoder", config, "model_type", "clip_text_model")
        configuration = read_configuration(CLIPTextConfiguration, "text_encoder", config)
        require("text_encoder", "hidden_act", configuration.hidden_act, ("gelu", "quick_gelu"))
        heads = configuration.num_attention_heads
        if heads < 1 or configuration.hidden_size % heads:
            raise UnsupportedConfiguration("text_encoder", "num_attention_heads", "a divisor of hidden_size", heads)
        return configuration


class SelfAttention(nn.Module):
    """Causal self-attention under CLIP's parameter names."""

    heads: Final[int]

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = Weights(channels, channels)
        self.v_proj = Weights(channels, channels)
        self.q_proj = Weights(channels, channels)
        self.out_proj = Weights(channels, channels)

    def split_heads(self, x: Tensor) -> Tensor:
        """(P, L, heads·d) as (P, heads, L, d), a view."""
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """x: (P, L, D), kept."""
        queries = self.split_heads(F.linear(x, self.q_proj.weight, self.q_proj.bias))
        keys = self.split_heads(F.linear(x, self.k_proj.weight, self.k_proj.bias))
        values = self.split_heads(F.linear(x, self.v_proj.weight, self.v_proj.bias))
        y = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(x.shape), self.out_proj.weight, self.out_proj.bias)


class MultilayerPerceptron(nn.Module):
    quick_gelu: Final[bool]

    def __init__(self, channels: int, inner_channels: int, quick_gelu: bool) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.fc1 = Weights(inner_channels, channels)
        self.fc2 = Weights(channels, inner_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.fc1.weight, self.fc1.bias)
        if self.quick_gelu:
            y = y * torch.sigmoid(1.702 * y)
        else:
            y = F.gelu(y)
        return F.linear(y, self.fc2.weight, self.fc2.bias)


class EncoderLayer(nn.Module):
    eps: Final[float]

    def __init__(self, configuration: CLIPTextConfiguration) -> None:
        super().__init__()
        channels = configuration.hidden_size
        self.eps = configuration.layer_norm_eps
        self.self_attn = SelfAttention(channels, configuration.num_attention_heads)
        self.layer_norm1 = Weights(channels)
        self.mlp = MultilayerPerceptron(
            channels, configuration.intermediate_size, configuration.hidden_act == "quick_gelu"
        )
        self.layer_norm2 = Weights(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (P, L, D), kept."""
        x = x + self.self_attn(layer_norm(x, self.layer_norm1.weight, self.layer_norm1.bias, self.eps))
        return x + self.mlp(layer_norm(x, self.layer_norm2.weight, self.layer_norm2.bias, self.eps))


class Embedding(nn.Module):
    def __init__(self, entries: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, channels))


class Embeddings(nn.Module):
    def __init__(self, configuration: CLIPTextConfiguration) -> None:
        super().__init__()
        self.token_embedding = Embedding(configuration.vocab_size, configuration.hidden_size)
        self.position_embedding = Embedding(configuration.max_position_embeddings, configuration.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids: (P, L) int64, L up to max_position_embeddings; gives (P, L, D)."""
        return F.embedding(input_ids, self.token_embedding.weight) + self.position_embedding.weight[: input_ids.size(1)]


class Encoder(nn.Module):
    def __init__(self, configuration: CLIPTextConfiguration) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(configuration) for _ in range(configuration.num_hidden_layers))

    def forward(self, x: Tensor, clip_skip: int) -> Tensor:
        """x: (P, L, D), kept; clip_skip: how many of the last layers to leave out."""
        if clip_skip < 0 or clip_skip > len(self.layers):
            raise ValueError("clip_skip must be between 0 and the number of layers")
        for index, layer in enumerate(self.layers):
            if index < len(self.layers) - clip_skip:
                x = layer(x)
        return x


class TextTransformer(nn.Module):
    eps: Final[float]

    def __init__(self, configuration: CLIPTextConfiguration) -> None:
        super().__init__()
        self.eps = configuration.layer_norm_eps
        self.embeddings = Embeddings(configuration)
        self.encoder = Encoder(configuration)
        self.final_layer_norm = Weights(configuration.hidden_size)

    def forward(self, input_ids: Tensor, clip_skip: int) -> Tensor:
        x = self.encoder(self.embeddings(input_ids), clip_skip)
        return layer_norm(x, self.final_layer_norm.weight, self.final_layer_norm.bias, self.eps)


class CLIPTextModel(nn.Module):
    """The text encoder. Parameters are named as published, under `text_model.`."""

    def __init__(self, configuration: CLIPTextConfiguration) -> None:
        super().__init__()
        self.text_model = TextTransformer(configuration)

    def forward(self, input_ids: Tensor, clip_skip: int) -> Tensor:
        """Hidden states (P, L, D) of token ids (P, L) int64, after the final layer norm.

        clip_skip: N leaves out the last N layers, which is transformers' hidden_states[-(N + 1)].
        """
        return self.text_model(input_ids, clip_skip)
