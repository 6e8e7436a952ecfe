"""The variational autoencoder of latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .configuration import UnsupportedConfiguration, read_configuration, require, require_class, require_groups
from .layers import Attention, Downsample, ResnetBlock, Upsample, Weights, add_linear, attend, convolve, group_norm, linear

EPS: Final = 1e-6
"""Of every group norm in this network."""


@dataclass(frozen=True)
class AutoencoderKLConfiguration:
    """The keys of vae/config.json that determine the graph, with diffusers' defaults."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "AutoencoderKLConfiguration":
        """Raises UnsupportedConfiguration, naming the key."""
        require_class("vae", config, "_class_name", "AutoencoderKL")
        configuration = read_configuration(AutoencoderKLConfiguration, "vae", config)
        require("vae", "act_fn", configuration.act_fn, ("silu", "swish"))
        for kind in configuration.down_block_types:
            require("vae", "down_block_types", kind, ("DownEncoderBlock2D",))
        for kind in configuration.up_block_types:
            require("vae", "up_block_types", kind, ("UpDecoderBlock2D",))
        blocks = len(configuration.block_out_channels)
        if len(configuration.down_block_types) != blocks:
            raise UnsupportedConfiguration("vae", "down_block_types", f"{blocks} types", configuration.down_block_types)
        if len(configuration.up_block_types) != blocks:
            raise UnsupportedConfiguration("vae", "up_block_types", f"{blocks} types", configuration.up_block_types)
        require_groups("vae", configuration.block_out_channels, configuration.norm_num_groups)
        return configuration


def resnets(channels: int, out_channels: int, layers: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(
        ResnetBlock(channels if layer == 0 else out_channels, out_channels, 0, groups, EPS, 1.0)
        for layer in range(layers)
    )


class AttentionBlock(Attention):
    """One-head self-attention over the positions of an image, with group norm and residual."""

    groups: Final[int]
    eps: Final[float]

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, channels, 1, True)
        self.groups = groups
        self.eps = EPS
        self.group_norm = Weights(channels)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: (N, H, W, C), overwritten."""
        tokens = group_norm(x, self.groups, self.group_norm.weight, self.group_norm.bias, self.eps).flatten(1, 2)
        queries = self.split_heads(linear(tokens, self.to_q.weight, self.to_q.bias))
        y = attend(queries, self.keys(tokens), self.values(tokens))
        add_linear(x.view(x.size(0), -1, x.size(-1)), y, self.to_out["0"].weight, self.to_out["0"].bias)
        return x


class MidBlock(nn.Module):
    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([AttentionBlock(channels, groups)] if attention else [])
        self.resnets = resnets(channels, channels, 2, groups)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, H, W, C), kept."""
        x = self.resnets[0](x, None)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x, None)


class DownBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int, layers: int, groups: int, downsample: bool) -> None:
        super().__init__()
        self.resnets = resnets(channels, out_channels, layers, groups)
        self.downsamplers = nn.ModuleList([Downsample(out_channels, 0)] if downsample else [])

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, H, W, C), kept."""
        for resnet in self.resnets:
            x = resnet(x, None)
        for downsampler in self.downsamplers:
            x = downsampler(x)
        return x


class UpBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int, layers: int, groups: int, upsample: bool) -> None:
        super().__init__()
        self.resnets = resnets(channels, out_channels, layers, groups)
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, H, W, C), kept."""
        for resnet in self.resnets:
            x = resnet(x, None)
        for upsampler in self.upsamplers:
            x = upsampler(x, 2 * x.size(1), 2 * x.size(2))
        return x


class Encoder(nn.Module):
    groups: Final[int]
    eps: Final[float]

    def __init__(self, configuration: AutoencoderKLConfiguration) -> None:
        super().__init__()
        widths = configuration.block_out_channels
        self.groups = configuration.norm_num_groups
        self.eps = EPS
        self.conv_in = Weights(widths[0], configuration.in_channels, 3, 3)
        self.down_blocks = nn.ModuleList(
            DownBlock(
                widths[max(index - 1, 0)], width, configuration.layers_per_block, self.groups, index < len(widths) - 1
            )
            for index, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], self.groups, configuration.mid_block_add_attention)
        self.conv_norm_out = Weights(widths[-1])
        self.conv_out = Weights(2 * configuration.latent_channels, widths[-1], 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, H, W, 3), kept; gives (N, h, w, 2·latent_channels)."""
        x = convolve(x, self.conv_in.weight, self.conv_in.bias, 1, 1)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        x = group_norm(x, self.groups, self.conv_norm_out.weight, self.conv_norm_out.bias, self.eps, silu=True)
        return convolve(x, self.conv_out.weight, self.conv_out.bias, 1, 1)


class Decoder(nn.Module):
    groups: Final[int]
    eps: Final[float]

    def __init__(self, configuration: AutoencoderKLConfiguration) -> None:
        super().__init__()
        widths = tuple(reversed(configuration.block_out_channels))
        self.groups = configuration.norm_num_groups
        self.eps = EPS
        self.conv_in = Weights(widths[0], configuration.latent_channels, 3, 3)
        self.mid_block = MidBlock(widths[0], self.groups, configuration.mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            UpBlock(
                widths[max(index - 1, 0)],
                width,
                configuration.layers_per_block + 1,
                self.groups,
                index < len(widths) - 1,
            )
            for index, width in enumerate(widths)
        )
        self.conv_norm_out = Weights(widths[-1])
        self.conv_out = Weights(configuration.out_channels, widths[-1], 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, h, w, latent_channels), kept; gives (N, H, W, 3)."""
        x = convolve(x, self.conv_in.weight, self.conv_in.bias, 1, 1)
        x = self.mid_block(x)
        for block in self.up_blocks:
            x = block(x)
        x = group_norm(x, self.groups, self.conv_norm_out.weight, self.conv_norm_out.bias, self.eps, silu=True)
        return convolve(x, self.conv_out.weight, self.conv_out.bias, 1, 1)


def images_at_a_time(x: Tensor) -> int:
    """One on the CPU, where the results of its layers then fit the cache better; on a GPU all that are given."""
    return x.size(0) if x.is_cuda else 1


class AutoencoderKL(nn.Module):
    """Images to latents and back. Call `encode` and `decode`; there is no forward."""

    def __init__(self, configuration: AutoencoderKLConfiguration) -> None:
        super().__init__()
        latent = configuration.latent_channels
        self.encoder = Encoder(configuration)
        self.decoder = Decoder(configuration)
        self.quant_conv = Weights(2 * latent, 2 * latent, 1, 1) if configuration.use_quant_conv else None
        self.post_quant_conv = Weights(latent, latent, 1, 1) if configuration.use_post_quant_conv else None

    @torch.jit.export
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (N, 3, H, W) in [-1, 1]; gives mean and log variance (N, 4, h, w) of the latents, not yet scaled.

        The log variance is clamped to [-30, 20].
        """
        x = images.permute(0, 2, 3, 1).contiguous()
        moments: list[Tensor] = []
        for batch in x.split(images_at_a_time(x)):
            y = self.encoder(batch)
            if self.quant_conv is not None:
                y = linear(y, self.quant_conv.weight, self.quant_conv.bias)
            moments.append(y.permute(0, 3, 1, 2))
        mean, logvar = torch.cat(moments).contiguous().chunk(2, 1)
        return mean, logvar.clamp(-30.0, 20.0)

    @torch.jit.export
    def decode(self, latents: Tensor) -> Tensor:
        """latents: (N, 4, h, w), already divided by the scaling factor; gives images (N, 3, H, W) around [-1, 1]."""
        x = latents.permute(0, 2, 3, 1).contiguous()
        images: list[Tensor] = []
        for batch in x.split(images_at_a_time(x)):
            if self.post_quant_conv is not None:
                batch = linear(batch, self.post_quant_conv.weight, self.post_quant_conv.bias)
            images.append(self.decoder(batch).permute(0, 3, 1, 2))
        return torch.cat(images).contiguous()
