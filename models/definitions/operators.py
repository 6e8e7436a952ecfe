"""The operators of torchreel's core (native/core/operators.h): declared, so that graphs can name them, and computed plainly.

Graphs call them on a CPU in float32, where libtorch's own are slow.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> Tensor:
    """Group norm of (N, …, C): statistics over all positions of an item and the channels of a group; then SiLU."""
    planes = x.reshape(x.size(0), -1, 1, x.size(-1)).permute(0, 3, 1, 2)
    y = F.group_norm(planes, groups, weight, bias, eps).permute(0, 2, 3, 1).reshape(x.shape)
    return F.silu(y) if silu else y


def short_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q·Kᵀ/√d)·V of queries (N, heads, T, d) for few keys and values (N, heads, S, d): (N, T, heads, d)."""
    return F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).contiguous()


library = torch.library.Library("torchreel", "FRAGMENT")
library.define("group_norm(Tensor x, int groups, Tensor weight, Tensor bias, float eps, bool silu) -> Tensor")
library.define("short_attention(Tensor queries, Tensor keys, Tensor values) -> Tensor")
library.impl("group_norm", group_norm, "CompositeImplicitAutograd")
library.impl("short_attention", short_attention, "CompositeImplicitAutograd")
