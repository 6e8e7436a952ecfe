"""How the networks of `shapes` are initialised and optimised."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from definitions.layers import Downsample, ResnetBlock, Upsample
from definitions.transformer import TransformerBlock
from definitions.unet3d import TemporalConvolution


def orthogonalised(matrix: Tensor) -> Tensor:
    """Approximates the nearest semi-orthogonal matrix by five Newton-Schulz steps (https://kellerjordan.github.io/posts/muon)."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum with an orthogonalised update of each matrix. A convolution counts as a matrix (out, in·k·k)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity: Tensor = state["velocity"].lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(velocity, group["momentum"])
                update = orthogonalised(nesterov.flatten(1))
                scale = max(1.0, update.size(0) / update.size(1)) ** 0.5
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


class Optimizer:
    """Muon for the inner matrices, AdamW for vectors and the layers named in `outer`, with one schedule for both."""

    def __init__(self, network: nn.Module, muon: float, adam: float, outer: tuple[str, ...]) -> None:
        matrices, others = [], []
        for name, parameter in network.named_parameters():
            inner = parameter.dim() > 1 and not any(part in name for part in outer)
            (matrices if inner else others).append(parameter)
        self.parameters = [*matrices, *others]
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, muon),
            torch.optim.AdamW(others, adam, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.rates = (muon, adam)

    def step(self, scale: float) -> float:
        """One step at `scale` times the learning rates, with gradients clipped to norm 1. Returns the norm."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, 1.0))
        for part, rate in zip(self.parts, self.rates):
            for group in part.param_groups:
                group["lr"] = rate * scale
            if math.isfinite(norm):
                part.step()
            part.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> list[dict[str, object]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)


def schedule(progress: float, warm_up: float = 0.01) -> float:
    """The scale of the learning rate at a progress of 0 to 1: linear warm-up, constant, cosine to 2% over the last 60%."""
    if progress < warm_up:
        return progress / warm_up
    late = max(0.0, (progress - 0.4) / 0.6)
    return 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, late)))


@torch.no_grad()
def initialise(network: nn.Module, small: float = 0.05) -> None:
    """Initialises all parameters from torch's generator: fan-in scaling, identity norms, residual branches near zero."""
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(math.prod(parameter.shape[1:])))
        elif name.endswith(".weight"):
            nn.init.ones_(parameter)
        else:
            nn.init.zeros_(parameter)
    fill: Mapping[type, Callable[[nn.Module], None]] = {
        Downsample: _average,
        Upsample: _keep,
        ResnetBlock: lambda block: block.conv2.weight.mul_(small),
        TemporalConvolution: lambda block: block.conv4["3"].weight.mul_(0.2),
        TransformerBlock: _soften,
    }
    for module in network.modules():
        if type(module) in fill:
            fill[type(module)](module)


def _average(module: nn.Module) -> None:
    """Initialises a downsampler as the mean of 2 × 2 pixels plus a little noise."""
    weight = module.conv.weight.mul_(0.1)
    first = 0 if module.padding == 0 else 1
    for channel in range(weight.size(0)):
        weight[channel, channel, first : first + 2, first : first + 2] += 0.25


def _keep(module: nn.Module) -> None:
    weight = module.conv.weight.mul_(0.1)
    for channel in range(weight.size(0)):
        weight[channel, channel, 1, 1] += 1


def _soften(block: nn.Module) -> None:
    for attention in (block.attn1, block.attn2):
        attention.to_out["0"].weight.mul_(0.3)
    block.ff.net["2"].weight.mul_(0.3)
