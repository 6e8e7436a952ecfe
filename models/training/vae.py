"""Training of the VAE of `shapes`: latents in which an object's shape is as strong as its colour."""

import random
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from definitions.autoencoder_kl import AutoencoderKL
from definitions.layers import linear

from .world import FRAMES, SHAPES, Scene, coverage, paint, random_scene

SHAPE_CODES: Final = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
"""Corners of a tetrahedron, one per shape: the value of the first three latent channels at the object's place."""

POSTERIOR_LOGVAR: Final = -6.0
"""The log variance of the published encoder at all positions: the noise is set by hand in training, not learnt."""

NOISE: Final = 0.4
"""The largest standard deviation of the noise on the latents in training. The decoder learns to ignore it."""


def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """images: (N, 3, 64, 64) in [-1, 1]. Returns the latents' mean (N, C, 8, 8)."""
    assert vae.quant_conv is not None
    moments = vae.encoder(images.permute(0, 2, 3, 1).contiguous())
    moments = linear(moments, vae.quant_conv.weight.flatten(1), vae.quant_conv.bias)
    return moments.permute(0, 3, 1, 2).chunk(2, 1)[0]


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """latents: (N, C, 8, 8). Returns images (N, 3, 64, 64) around [-1, 1]."""
    assert vae.post_quant_conv is not None
    x = latents.permute(0, 2, 3, 1).contiguous()
    x = linear(x, vae.post_quant_conv.weight.flatten(1), vae.post_quant_conv.bias)
    return vae.decoder(x).permute(0, 3, 1, 2)


def random_frames(random_: random.Random, count: int) -> tuple[list[Scene], Tensor, Tensor]:
    """Scenes, the covered fraction of each pixel (N, 64, 64), and one frame of each scene (N, 3, 64, 64)."""
    scenes = [random_scene(random_) for _ in range(count)]
    covered = coverage(scenes, FRAMES + 8)
    frame = torch.tensor([random_.randrange(FRAMES + 8) for _ in scenes])
    covered = covered[torch.arange(count), frame]
    return scenes, covered, paint(scenes, covered[:, None])[:, 0]


def vae_loss(vae: AutoencoderKL, scenes: list[Scene], covered: Tensor, images: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss: reconstruction from noisy latents, the shape's code in the first channels, and a bound on the others."""
    latents = encode(vae, images)
    codes = SHAPE_CODES.to(images.device)[[SHAPES.index(scene.shape) for scene in scenes]]
    nearby = F.avg_pool2d(covered[:, None], 16, 8, 4)
    code_loss = F.mse_loss(latents[:, :3], codes[:, :, None, None] * nearby * 1.5)
    bound = latents[:, 3:].square().mean()
    strength = NOISE * torch.rand(len(scenes), 1, 1, 1, device=images.device)
    decoded = decode(vae, latents + strength * torch.randn_like(latents))
    difference = decoded - images
    weight = 1 + 3 * (F.max_pool2d(covered[:, None], 5, 1, 2) > 0).float()
    pixels = (weight * (difference.square() + 0.3 * difference.abs())).mean()
    error = difference.detach().square().mean().item() / 4
    return pixels + code_loss + 3e-3 * bound, {"pixels": error, "code": code_loss.item(), "bound": bound.item()}


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, images: Tensor) -> None:
    """Folds a scale and shift per channel into the 1 × 1 convolutions, so that latents of `images` have mean 0, variance 1."""
    assert vae.quant_conv is not None and vae.post_quant_conv is not None
    latents = encode(vae, images)
    mean = latents.mean((0, 2, 3))
    scale = latents.std((0, 2, 3))
    channels = mean.numel()
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += linear(mean, out.weight.flatten(1), None)
    out.weight *= scale[None, :, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / scale
    into.weight[:channels] /= scale[:, None, None, None]
    into.weight[channels:] = 0
    into.bias[channels:] = POSTERIOR_LOGVAR


def signal_to_noise(vae: AutoencoderKL, images: Tensor) -> float:
    """The peak signal-to-noise ratio in dB of decoded latents without noise."""
    with torch.no_grad():
        return float(-10 * torch.log10((decode(vae, encode(vae, images)).clamp(-1, 1) - images).div(2).square().mean()))
