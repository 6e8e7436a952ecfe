"""Writes a checkpoint of random weights for any configs, in the layout of a published one: for tests and benchmarks.

    python models/random_checkpoint.py CONFIG_FOLDER --output DIR [--dtype float32 float16] [--seed N] [--old-vae-names]

CONFIG_FOLDER holds model_index.json, scheduler/, tokenizer/ and {unet,vae,text_encoder}/config.json, which are copied.
One tensor at a time is made and written, so memory stays small however large the model.
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

VARIANTS: Mapping[str, tuple[torch.dtype, str]] = {"float32": (torch.float32, ""), "float16": (torch.float16, ".fp16")}
TYPES: Mapping[torch.dtype, str] = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
OLD_VAE_NAMES: Mapping[str, str] = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
POSITION_IDS = "text_model.embeddings.position_ids"
"""A buffer that published text encoders hold beside their parameters."""


def random_parameter(name: str, shape: Sequence[int], norm: bool, seed: int) -> Tensor:
    """A float32 parameter that keeps activations near 1: fan-in scaling; norms are the identity.

    A temporal convolution's last layer, zero when training starts, is small, so that a mistake in it shows.
    """
    if norm:
        return torch.ones(shape) if name.endswith(".weight") else torch.zeros(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode(), seed) & 0xFFFFFFFF)
    scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.02
    if ".conv4." in name:
        scale *= 0.1
    return torch.randn(shape, generator=generator).mul_(scale)


def write_safetensors(
    path: Path, dtype: torch.dtype, shapes: Mapping[str, Sequence[int]], make: Callable[[str], Tensor]
) -> None:
    """Writes the tensors that `make` gives for the names in `shapes`; whole numbers stay int64, the rest is `dtype`.

    The format: header length (uint64, little-endian), JSON header padded with spaces to 8 bytes, data without gaps.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        kind = torch.int64 if name == POSITION_IDS else dtype
        end = offset + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": TYPES[kind], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in shapes:
                tensor = make(name)
                tensor = tensor if tensor.dtype == torch.int64 else tensor.to(dtype)
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
    # A norm's weight is a vector; so is its bias, but every other layer has a bias vector too.
    norms = {name[: -len(".weight")] for name, shape in shapes.items() if len(shape) == 1 and name.endswith(".weight")}

    def on_disk(name: str) -> str:
        if component == "vae" and old_names and ".attentions." in name:
            for new, old in OLD_VAE_NAMES.items():
                name = name.replace(f".{new}.", f".{old}.")
        return name

    names = {on_disk(name): name for name in shapes}
    stored = {disk: shapes[name] for disk, name in names.items()}
    if component == "text_encoder":
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
        write_safetensors(path, dtype, dict(sorted(stored.items())), make)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    shutil.copyfile(folder / component / "config.json", output / component / "config.json")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a checkpoint of random weights.")
    parser.add_argument("configs", type=Path, metavar="CONFIG_FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--dtype", nargs="+", choices=list(VARIANTS), default=["float32"], help="one file each [float32]"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--old-vae-names", action="store_true", help="name the VAE's attention as published: query, key …"
    )
    arguments = parser.parse_args()
    try:
        family = find_family(json.loads((arguments.configs / "model_index.json").read_text()))
        for component, network_class in family.networks.items():
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
