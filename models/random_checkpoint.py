"""Writes a checkpoint of random weights for any configs, in the layout of a published one: for tests and benchmarks.

    python models/random_checkpoint.py CONFIG_FOLDER --output DIR [--dtype float32 float16] [--seed N]
        [--without text_encoder] [--old-vae-names]

CONFIG_FOLDER must contain model_index.json, scheduler/, tokenizer/ and the config.json of each network, which are copied.
Tensors are made and written one at a time, so memory stays small for a model of any size.
"""

import argparse
import ctypes
import json
import math
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from definitions.families import NETWORKS, find_family

VARIANTS: Mapping[str, tuple[torch.dtype, str]] = {
    "float32": (torch.float32, ""),
    "float16": (torch.float16, ".fp16"),
    "bfloat16": (torch.bfloat16, ""),
}
"""The dtype and the part of the file name. Published files in bfloat16 have the plain name."""
TYPES: Mapping[torch.dtype, str] = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
OLD_VAE_NAMES: Mapping[str, str] = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
POSITION_IDS = "text_model.embeddings.position_ids"
"""A buffer in published text encoders, besides their parameters."""


def random_parameter(name: str, shape: Sequence[int], norm: bool, seed: int) -> Tensor:
    """A float32 parameter that keeps activations near 1: fan-in scaling, and identity norms.

    The last layer of a temporal convolution starts training at zero. Here it is small but not zero, so that tests notice
    mistakes in it.
    """
    if norm:
        return torch.zeros(shape) if name.endswith(".bias") else torch.ones(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode(), seed) & 0xFFFFFFFF)
    scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.02
    if ".conv4." in name:
        scale *= 0.1
    return torch.randn(shape, generator=generator).mul_(scale)


def stored_dtype(name: str, dtype: torch.dtype, float32: Sequence[str]) -> torch.dtype:
    """The dtype of a tensor in a file of `dtype`; float32: parts of the names of those that stay float32."""
    if name == POSITION_IDS:
        return torch.int64
    return torch.float32 if any(part in name for part in float32) else dtype


def write_safetensors(
    path: Path,
    dtypes: Mapping[str, torch.dtype],
    shapes: Mapping[str, Sequence[int]],
    make: Callable[[str], Tensor],
) -> None:
    """Writes the tensors that `make` gives for the names in `shapes`, in the `dtypes` of the same names.

    The format: header length (uint64, little-endian), JSON header padded with spaces to 8 bytes, data without gaps.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * dtypes[name].itemsize
        header[name] = {"dtype": TYPES[dtypes[name]], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in shapes:
                tensor = make(name).to(dtypes[name])
                file.write((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr()))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_component(
    folder: Path, output: Path, component: str, network_class: str, dtypes: Sequence[str], seed: int, old_names: bool
) -> None:
    parts = NETWORKS[network_class]
    config = json.loads((folder / component / "config.json").read_text())
    configuration = parts.configuration.from_config(config)
    with torch.device("meta"):
        network = parts.module(configuration)
    shapes = {name: list(parameter.shape) for name, parameter in network.named_parameters()}
    # A norm's weight is a vector or named gamma; its bias is a vector, but every other layer has a bias vector too.
    norms = {
        name.rpartition(".")[0]
        for name, shape in shapes.items()
        if len(shape) == 1 and name.endswith(".weight") or name.endswith(".gamma")
    }

    def on_disk(name: str) -> str:
        if component == "vae" and old_names and ".attentions." in name:
            for new, old in OLD_VAE_NAMES.items():
                name = name.replace(f".{new}.", f".{old}.")
        return name

    names = {on_disk(name): name for name in shapes}
    stored = {disk: shapes[name] for disk, name in names.items()}
    if network_class == "CLIPTextModel":
        stored[POSITION_IDS] = [1, configuration.max_position_embeddings]

    def make(disk: str) -> Tensor:
        if disk == POSITION_IDS:
            return torch.arange(stored[disk][1])
        name = names[disk]
        return random_parameter(name, shapes[name], name.rpartition(".")[0] in norms, seed)

    for choice in dtypes:
        dtype, suffix = VARIANTS[choice]
        base = "model" if component == "text_encoder" else "diffusion_pytorch_model"
        path = output / component / f"{base}{suffix}.safetensors"
        stored_dtypes = {name: stored_dtype(name, dtype, parts.float32) for name in stored}
        write_safetensors(path, stored_dtypes, dict(sorted(stored.items())), make)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a checkpoint of random weights.")
    parser.add_argument("configs", type=Path, metavar="CONFIG_FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--dtype", nargs="+", choices=list(VARIANTS), default=["float32"], help="one file each [float32]"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="NETWORK", help="folders that get a config.json and no weights"
    )
    parser.add_argument(
        "--old-vae-names", action="store_true", help="name the VAE's attention as published: query, key …"
    )
    arguments = parser.parse_args()
    if {"float32", "bfloat16"} <= set(arguments.dtype):
        parser.error("float32 and bfloat16 files have the same name: choose one")
    try:
        family = find_family(json.loads((arguments.configs / "model_index.json").read_text()))
        for name in arguments.without:
            if name not in family.networks:
                raise ValueError(f"--without takes any of {', '.join(family.networks)}; received {name}")
        for component, network_class in family.networks.items():
            (arguments.output / component).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(arguments.configs / component / "config.json", arguments.output / component / "config.json")
            if component in arguments.without:
                continue
            write_component(
                arguments.configs,
                arguments.output,
                component,
                network_class,
                arguments.dtype,
                arguments.seed,
                arguments.old_vae_names,
            )
        shutil.copyfile(arguments.configs / "model_index.json", arguments.output / "model_index.json")
        for folder in ("scheduler", "tokenizer"):
            shutil.copytree(arguments.configs / folder, arguments.output / folder, dirs_exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"random_checkpoint.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
