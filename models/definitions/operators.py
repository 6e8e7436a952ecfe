"""The operators of torchreel's core (native/operators/operators.h): declared, so that graphs can name them, and computed plainly.

Graphs call them on a CPU in float32 and bfloat16, where libtorch's own are slow or do more than they must.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> Tensor:
    """Group norm of (N, …, C): statistics over all positions of an item and the channels of a group; then SiLU."""
    planes = x.reshape(x.size(0), -1, 1, x.size(-1)).permute(0, 3, 1, 2)
    y = F.group_norm(planes, groups, weight, bias, eps).permute(0, 2, 3, 1).reshape(x.shape).contiguous()
    return F.silu(y) if silu else y


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q·Kᵀ/√d)·V of queries (N, heads, T, d), keys and values (N, heads, S, d): (N, T, heads, d)."""
    return F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).contiguous()


def convolve_3x3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3 × 3 convolution of x (N, H, W, C), padded by one pixel, with weight (O, C, 3, 3): (N, H, W, O)."""
    return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, [1, 1], [1, 1]).permute(0, 2, 3, 1).contiguous()


def upsample_and_convolve(x: Tensor, weight: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """The same of x with each pixel doubled in both directions and cropped to (height, width)."""
    n, h, w, c = x.shape
    doubled = x.reshape(n, h, 1, w, 1, c).expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c)
    return convolve_3x3(doubled[:, :height, :width], weight, bias)


def convolve_frames(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution over three frames of x (B, F, P, C), padded by one frame, with weight (O, C, 3, 1, 1): (B, F, P, O).

    A 2-D one over (F, P): 3-D ones are slow in channels last.
    """
    return F.conv2d(x.permute(0, 3, 1, 2), weight.squeeze(4), bias, [1, 1], [1, 0]).permute(0, 2, 3, 1).contiguous()


def add_convolve_frames(sum: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Adds the same to a contiguous sum (B, F, P, O)."""
    sum.add_(convolve_frames(x, weight, bias))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm of (…, C)."""
    return F.layer_norm(x, [x.size(-1)], weight, bias, eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + eps)·weight over the last axis of (…, C)."""
    return torch.rms_norm(x, [x.size(-1)], weight, eps)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x·Wᵀ + b for x (…, C) and W (O, C) or (O, C, 1, 1). The core also takes W as it packs it."""
    return F.linear(x, weight.flatten(1), bias)


def add_linear(sum: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """sum += x·Wᵀ + b for sum (…, O)."""
    sum.add_(linear(x, weight, bias))


def linear_gelu_tanh(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """gelu(x·Wᵀ + b), with gelu's approximation by tanh. The core also takes W as it packs it."""
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(x·W₁ᵀ + b₁)·gelu(x·W₂ᵀ + b₂) for W (2·O, C), W₁ over W₂. The core also takes W as it packs it."""
    hidden, gates = F.linear(x, weight, bias).chunk(2, -1)
    return hidden * F.gelu(gates)


library = torch.library.Library("torchreel", "FRAGMENT")
for schema, function in {
    "group_norm(Tensor x, int groups, Tensor weight, Tensor bias, float eps, bool silu) -> Tensor": group_norm,
    "attention(Tensor queries, Tensor keys, Tensor values) -> Tensor": attention,
    "convolve_3x3(Tensor x, Tensor weight, Tensor bias) -> Tensor": convolve_3x3,
    "upsample_and_convolve(Tensor x, Tensor weight, Tensor bias, int height, int width) -> Tensor": upsample_and_convolve,
    "convolve_frames(Tensor x, Tensor weight, Tensor bias) -> Tensor": convolve_frames,
    "add_convolve_frames(Tensor(a!) sum, Tensor x, Tensor weight, Tensor bias) -> ()": add_convolve_frames,
    "layer_norm(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor": layer_norm,
    "rms_norm(Tensor x, Tensor weight, float eps) -> Tensor": rms_norm,
    "linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor": linear,
    "add_linear(Tensor(a!) sum, Tensor x, Tensor weight, Tensor? bias) -> ()": add_linear,
    "linear_gelu_tanh(Tensor x, Tensor weight, Tensor? bias) -> Tensor": linear_gelu_tanh,
    "gated_linear(Tensor x, Tensor weight, Tensor bias) -> Tensor": gated_linear,
}.items():
    if not hasattr(torch.ops.torchreel, function.__name__):  # else the core is in this process
        library.define(schema)
        # Explicit: a compiled step calls the operator, and does not compile what stands here.
        library.impl(function.__name__, function, "CompositeExplicitAutograd")
