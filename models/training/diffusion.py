"""Noise schedule, loss and sampling of `shapes`: v-prediction (https://arxiv.org/abs/2202.00512), zero terminal SNR."""

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from definitions.unet3d import UNet3DConditionModel

from .forward import predict
from .text import CHOICES

TIMESTEPS: Final = 1000
SCHEDULER: Final[dict[str, Any]] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "num_train_timesteps": TIMESTEPS,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "clip_sample": False,
    "set_alpha_to_one": True,
}
"""scheduler_config.json. Many latents carry the same information (all frames, all cells of an object), so that much of it is
visible even at high noise. A linear schedule has more of its steps there than the usual scaled one."""


def signal_and_noise() -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1 - ᾱ) for each timestep, shifted and scaled so that the last is pure noise (https://arxiv.org/abs/2305.08891)."""
    betas = torch.linspace(SCHEDULER["beta_start"], SCHEDULER["beta_end"], TIMESTEPS, dtype=torch.float64)
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root.float(), (1 - root.square()).sqrt().float()


class Auxiliary(nn.Module):
    """Heads for training only. They predict the object and its place in each frame from the UNet's features.

    Without them the network does not learn motion in reasonable time.
    """

    def __init__(self, features: list[tuple[int, int]]) -> None:
        """features: positions and channels of each."""
        super().__init__()
        properties = sum(len(row) for row in CHOICES.values())
        self.heads = nn.ModuleList(nn.Linear(positions * channels, 2 + properties) for positions, channels in features)

    def forward(self, features: list[Tensor], centres: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """features: (B, F, h, w, C) each; centres: (B, F, 2) in frame widths; classes: (B, properties). Two losses."""
        place = kind = torch.zeros((), device=centres.device)
        for head, feature in zip(self.heads, features):
            y = head(feature.flatten(2))
            place = place + F.mse_loss(y[..., :2], 4 * centres)
            logits = y[..., 2:].mean(1).split([len(row) for row in CHOICES.values()], -1)
            for column, scores in enumerate(logits):
                kind = kind + F.cross_entropy(scores, classes[:, column])
        return place, kind


def diffusion_loss(
    network: UNet3DConditionModel, latents: Tensor, text: Tensor, generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """latents: (B, C, F, h, w); text: (B, L, D). Timesteps are spread evenly over the batch. Returns loss and features."""
    count = latents.size(0)
    spread = (torch.arange(count) + torch.rand(1, generator=generator)) / count
    timesteps = (spread * TIMESTEPS).long().clamp(0, TIMESTEPS - 1).to(latents.device)
    signal, sigma = (table.to(latents.device)[timesteps][:, None, None, None, None] for table in signal_and_noise())
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    prediction, features = predict(network, signal * latents + sigma * noise, timesteps, text)
    return F.mse_loss(prediction, signal * noise - sigma * latents), features


@torch.no_grad()
def sample(
    network: UNet3DConditionModel, text: Tensor, negative: Tensor, frames: int, guidance: float, steps: int, seed: int
) -> Tensor:
    """DPM-Solver++ 2M (https://arxiv.org/abs/2211.01095), like the pipeline's. text: (B, L, D); negative: (1, L, D).

    Returns latents (B, C, F, 8, 8).
    """
    signal, _ = signal_and_noise()
    signal[-1] = 2.0**-12  # The reference uses this value instead of zero.
    sigma = (1 - signal.square()).sqrt()
    timesteps = [round(TIMESTEPS - step * TIMESTEPS / steps) - 1 for step in range(steps)]
    generator = torch.Generator().manual_seed(seed)
    count, channels = text.size(0), network.conv_in.weight.size(1)
    x = torch.randn(count, channels, frames, 8, 8, generator=generator).to(text.device)
    both = torch.cat([negative.expand_as(text), text])
    last: tuple[Tensor, float] | None = None
    for index, timestep in enumerate(timesteps):
        a, s = float(signal[timestep]), float(sigma[timestep])
        when = torch.full((2 * count,), timestep, device=text.device)
        if guidance > 1:
            uncond, cond = predict(network, torch.cat([x, x]), when, both)[0].chunk(2)
            v = uncond + guidance * (cond - uncond)
        else:
            v = predict(network, x, when[:count], text)[0]
        clean = a * x - s * v
        if index == len(timesteps) - 1:
            return clean
        a_next, s_next = float(signal[timesteps[index + 1]]), float(sigma[timesteps[index + 1]])
        level, level_next = math.log(a / s), math.log(a_next / s_next)
        h = level_next - level
        slope = torch.zeros_like(clean)
        if last is not None:
            slope = 0.5 * (clean - last[0]) * h / (level - last[1])
        x = (s_next / s) * x - a_next * math.expm1(-h) * (clean + slope)
        last = (clean, level)
    return x
