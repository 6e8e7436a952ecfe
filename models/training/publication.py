"""Writes `shapes` in the published layout: configs, vocabulary and float16 weights."""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from export import write
from random_checkpoint import write_safetensors

from .diffusion import SCHEDULER
from .vocabulary import LENGTH, Vocabulary

UNET: Final[dict[str, Any]] = {
    "_class_name": "UNet3DConditionModel",
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "down_block_types": ["DownBlock3D", "CrossAttnDownBlock3D"],
    "up_block_types": ["CrossAttnUpBlock3D", "UpBlock3D"],
    "block_out_channels": [32, 96],
    "layers_per_block": 1,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 8,
    "norm_eps": 1e-5,
    "cross_attention_dim": 96,
    "attention_head_dim": 4,
}
VAE: Final[dict[str, Any]] = {
    "_class_name": "AutoencoderKL",
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8, 16, 32, 64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 8,
    "norm_num_groups": 1,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
}
TEXT_ENCODER: Final[dict[str, Any]] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": len(Vocabulary()),
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 96,
    "bos_token_id": len(Vocabulary()) - 2,
    "eos_token_id": len(Vocabulary()) - 1,
    "pad_token_id": len(Vocabulary()) - 1,
}
CONFIGURATIONS: Final[Mapping[str, dict[str, Any]]] = {"unet": UNET, "vae": VAE, "text_encoder": TEXT_ENCODER}
INDEX: Final[dict[str, Any]] = {
    "_class_name": "TextToVideoSDPipeline",
    "_guidance_scale": 3.0,
    "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet3DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, (json.dumps(content, indent=2) + "\n").encode())


def write_weights(path: Path, network: nn.Module) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    half = {name: tensor.half() for name, tensor in sorted(tensors.items())}
    write_safetensors(path, torch.float16, {name: list(tensor.shape) for name, tensor in half.items()}, half.__getitem__)


def publish(folder: Path, vocabulary: Vocabulary, text_encoder: nn.Module, unet: nn.Module, vae: nn.Module) -> None:
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    for component, content in CONFIGURATIONS.items():
        write_json(folder / component / "config.json", content)
    vocabulary.save(folder / "tokenizer")
    write_weights(folder / "text_encoder" / "model.safetensors", text_encoder)
    write_weights(folder / "unet" / "diffusion_pytorch_model.safetensors", unet)
    write_weights(folder / "vae" / "diffusion_pytorch_model.safetensors", vae)


def write_sheet(path: Path, clips: Tensor) -> None:
    """clips: (B, F, 3, H, W) around [-1, 1]. Writes a PNG with one row per clip and every third frame."""
    frames = ((clips[:, ::3].clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 3, 1, 4, 2)
    image = frames.flatten(0, 1).flatten(1, 2).cpu()
    height, width = image.shape[:2]
    lines = b"".join(b"\0" + bytes(line.flatten().tolist()) for line in image)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b""))
    write(path, b"\x89PNG\r\n\x1a\n" + b"".join(parts))
