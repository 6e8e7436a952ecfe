"""Layers that Wan's networks share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import computes_on_cpu


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + eps) · weight over the last axis; the mean is float32 whatever x is."""
    if computes_on_cpu(x):
        return torch.ops.torchreel.rms_norm(x, weight, eps)
    return torch.rms_norm(x, [x.size(-1)], weight, eps)


def linear_gelu_tanh(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """gelu(x·Wᵀ + b), with gelu's approximation by tanh."""
    if computes_on_cpu(x):
        return torch.ops.torchreel.linear_gelu_tanh(x, weight, bias)
    return torch.ops.aten.gelu_(F.linear(x, weight, bias), approximate="tanh")
