"""The forward pass of the UNet for training: one timestep per clip, no overwriting, and intermediate features as output.

It uses the parameters of definitions/unet3d.py, whose own forward pass is for sampling. Both compute the same.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from definitions.layers import Attention, ResnetBlock, group_norm, layer_norm
from definitions.transformer import Transformer, TransformerBlock
from definitions.unet3d import Block, TemporalConvolution, TimeEmbedding, UNet3DConditionModel


def convolve(x: Tensor, layer: nn.Module, stride: int = 1) -> Tensor:
    """3 × 3 convolution of (N, H, W, C)."""
    return F.conv2d(x.permute(0, 3, 1, 2), layer.weight, layer.bias, stride, 1).permute(0, 2, 3, 1)


def norm(x: Tensor, layer: nn.Module, groups: int, eps: float) -> Tensor:
    return group_norm(x, groups, layer.weight, layer.bias, eps)


def embed_time(embedding: TimeEmbedding, timesteps: Tensor) -> Tensor:
    """timesteps: (B). Returns SiLU of the embedding, (B, T)."""
    half = embedding.linear_1.weight.size(1) // 2
    rates = torch.exp(torch.arange(half, device=timesteps.device) * (-math.log(10000.0) / half))
    angles = timesteps.float()[:, None] * rates
    x = torch.cat([angles.cos(), angles.sin()], 1)
    x = F.silu(F.linear(x, embedding.linear_1.weight, embedding.linear_1.bias))
    return F.silu(F.linear(x, embedding.linear_2.weight, embedding.linear_2.bias))


def resnet(block: ResnetBlock, x: Tensor, time: Tensor) -> Tensor:
    """x: (B, F, H, W, C); time: (B, T)."""
    images = x.flatten(0, 1)
    y = convolve(F.silu(norm(images, block.norm1, block.groups, block.eps)), block.conv1)
    assert block.time_emb_proj is not None
    shift = F.linear(time, block.time_emb_proj.weight, block.time_emb_proj.bias)
    y = y + shift.repeat_interleave(x.size(1), 0)[:, None, None]
    y = convolve(F.silu(norm(y, block.norm2, block.groups, block.eps)), block.conv2)
    if block.conv_shortcut is not None:
        images = F.linear(images, block.conv_shortcut.weight.flatten(1), block.conv_shortcut.bias)
    return ((images + y) / block.output_scale_factor).unflatten(0, x.shape[:2])


def temporal_convolution(block: TemporalConvolution, x: Tensor) -> Tensor:
    """x: (B, F, H, W, C)."""
    y = x.flatten(2, 3)
    for layers in (block.conv1, block.conv2, block.conv3, block.conv4):
        normalisation, convolution = layers.values()
        y = F.silu(norm(y, normalisation, block.groups, block.eps)).permute(0, 3, 1, 2)
        y = F.conv2d(y, convolution.weight.squeeze(4), convolution.bias, 1, (1, 0)).permute(0, 2, 3, 1)
    return x + y.reshape(x.shape)


def attend(layer: Attention, x: Tensor, source: Tensor) -> Tensor:
    """x: (N, T, C); source: (N, S, D)."""
    queries = layer.split_heads(F.linear(x, layer.to_q.weight))
    keys = layer.split_heads(F.linear(source, layer.to_k.weight))
    values = layer.split_heads(F.linear(source, layer.to_v.weight))
    y = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(x.shape)
    return F.linear(y, layer.to_out["0"].weight, layer.to_out["0"].bias)


def transformer_block(block: TransformerBlock, x: Tensor, text: Tensor | None) -> Tensor:
    """x: (N, T, C); text: (B, L, D), N a multiple of B; None: the second attention is to the tokens themselves."""
    y = layer_norm(x, block.norm1.weight, block.norm1.bias)
    x = x + attend(block.attn1, y, y)
    y = layer_norm(x, block.norm2.weight, block.norm2.bias)
    if text is None:
        x = x + attend(block.attn2, y, y)
    else:
        x = x + attend(block.attn2, y.reshape(text.size(0), -1, y.size(-1)), text).reshape(x.shape)
    y = layer_norm(x, block.norm3.weight, block.norm3.bias)
    gate, out = block.ff.net["0"].proj, block.ff.net["2"]
    hidden, gates = F.linear(y, gate.weight, gate.bias).chunk(2, -1)
    return x + F.linear(hidden * F.gelu(gates), out.weight, out.bias)


def transformer(module: Transformer, x: Tensor, text: Tensor | None) -> Tensor:
    """x: (B, F, H, W, C). With text: attention over the positions of a frame and to the text. Without: over the frames."""
    temporal = text is None
    tokens = x.flatten(2, 3)
    y = norm(tokens if temporal else tokens.flatten(0, 1), module.norm, module.groups, module.eps)
    y = F.linear(y, module.proj_in.weight, module.proj_in.bias)
    if temporal:
        y = y.transpose(1, 2).flatten(0, 1)
    y = transformer_block(module.transformer_blocks[0], y, text)
    if temporal:
        y = y.unflatten(0, (x.size(0), -1)).transpose(1, 2)
    return x + F.linear(y, module.proj_out.weight, module.proj_out.bias).reshape(x.shape)


def layer(block: Block, index: int, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
    """Resnet and temporal convolution, then the transformers if the block has them for this layer."""
    x = temporal_convolution(block.temp_convs[index], resnet(block.resnets[index], x, time))
    if index < len(block.attentions):
        x = transformer(block.attentions[index], x, text)
        x = transformer(block.temp_attentions[index], x, None)
    return x


def resample(module: nn.Module, x: Tensor, up: bool) -> Tensor:
    images = x.flatten(0, 1)
    if up:
        images = images.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return convolve(images, module.conv, 1 if up else 2).unflatten(0, x.shape[:2])


def predict(network: UNet3DConditionModel, latents: Tensor, timesteps: Tensor, text: Tensor) -> tuple[Tensor, list[Tensor]]:
    """latents: (B, C, F, h, w); timesteps: (B); text: (B, L, D).

    Returns the prediction, with the shape of `latents`, and the features for the auxiliary losses: the outputs
    (B, F, h', w', C') of the mid block and the first up block.
    """
    time = embed_time(network.time_embedding, timesteps)
    x = latents.permute(0, 2, 3, 4, 1)
    x = convolve(x.flatten(0, 1), network.conv_in).unflatten(0, x.shape[:2])
    x = transformer(network.transformer_in, x, None)
    skips = [x]
    for block in network.down_blocks:
        for index in range(len(block.resnets)):
            x = layer(block, index, x, time, text)
            skips.append(x)
        for downsampler in block.downsamplers:
            x = resample(downsampler, x, False)
            skips.append(x)
    x = layer(network.mid_block, 0, x, time, text)
    x = layer(network.mid_block, 1, x, time, text)
    features = [x]
    for block in network.up_blocks:
        for index in range(len(block.resnets)):
            x = layer(block, index, torch.cat([x, skips.pop()], -1), time, text)
        if len(features) < 2:
            features.append(x)
        for upsampler in block.upsamplers:
            x = resample(upsampler, x, True)
    y = F.silu(norm(x.flatten(0, 1), network.conv_norm_out, network.groups, network.eps))
    y = convolve(y, network.conv_out).unflatten(0, x.shape[:2])
    return y.permute(0, 4, 1, 2, 3), features
