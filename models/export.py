"""Scripts the networks of a checkpoint's architecture into TorchScript graphs without weights.

A graph is an archive of code whose parameters are placeholders: one element, expanded to the published shape. Weights
are bound to it by name when it is loaded. Archives are the same byte for byte on every machine.

    python models/export.py CHECKPOINT_FOLDER                  # for a checkpoint of your own: CHECKPOINT_FOLDER/graphs
    python models/export.py CHECKPOINT_FOLDER --output models/graphs --name modelscope-1.7b
    python models/export.py --check models/graphs              # compare the graphs with a new export
    python models/export.py CHECKPOINT_FOLDER --compile unet.pt2 --device cuda    # the UNet's step as machine code
"""

import argparse
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import re
import shlex
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import torch
    from torch import nn
except ModuleNotFoundError as error:
    requirements = shlex.quote(str(Path(__file__).resolve().with_name("requirements.txt")))
    sys.exit(f"{error.name} is not installed. Install it: {sys.executable} -m pip install -r {requirements}")

from definitions.families import NETWORKS, find_family

TORCH = "2.13.0"
"""The version that makes the archives whose checksums are in the manifest."""

ALIGNMENT = 64
"""The alignment of every record's data in an archive, in bytes, so that it can be mapped into memory."""

CONSTANTS = re.compile(rb"(?:^  \w+ : Final\[.*\n)+", re.MULTILINE)
"""Consecutive declarations of constants in the code of an archive."""


def plain(configuration: Any) -> dict[str, Any]:
    """A configuration as a JSON object."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(configuration).items()
    }


def replace_parameters_with_placeholders(network: nn.Module) -> None:
    """Gives each parameter a view of one shared element, of stride 0, so that none is ever allocated."""
    element = torch.zeros(())
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(element.expand(parameter.shape), requires_grad=False))


def build(network_class: str, configuration: Any) -> nn.Module:
    """A network without memory for its parameters."""
    with torch.device("meta"):
        return NETWORKS[network_class].module(configuration).eval()


def float32_parameters(network_class: str, configuration: Any) -> list[str]:
    """The parameters that stay float32 whatever dtype the network computes in."""
    parts = NETWORKS[network_class].float32
    if not parts:
        return []
    names = [name for name, _ in build(network_class, configuration).named_parameters()]
    return [name for name in names if any(part in name for part in parts)]


def script(network_class: str, configuration: Any) -> bytes:
    """The archive of a network's graph. The bytes repeat only as the first of a process (see script_all)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to initialize NumPy")
        warnings.simplefilter("ignore", DeprecationWarning)
        network = build(network_class, configuration)
        replace_parameters_with_placeholders(network)
        scripted = torch.jit.script(network)
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
    return canonical_archive(buffer.getvalue())


def script_all(graphs: Sequence[tuple[str, Any]]) -> list[bytes]:
    """The archives of several (network class, configuration), each from a process of its own.

    torch numbers the names of scripted classes within a process: an earlier graph would change the bytes of a later one.
    """
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(script, graphs, chunksize=1)


def canonical_archive(archive: bytes) -> bytes:
    """Rewrites a TorchScript archive so that it is the same on every machine and in every run.

    Removes source locations (paths of this machine) and the serialization id, and sets all times to a constant. Stores
    records in name order, uncompressed, with aligned data. Sorts the constants of a class by name: torch writes them in
    the order of a Python set.
    """
    output = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(source.namelist()):
            if name.endswith(".debug_pkl") or name.endswith("/.data/serialization_id"):
                continue
            record = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            record.create_system = 3
            # The local header has 30 bytes, the name and the extra field. That begins with 4 bytes: 'FB' and its length.
            data_start = output.tell() + 30 + len(name.encode()) + 4
            padding = -data_start % ALIGNMENT
            record.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            data = source.read(name)
            if name.endswith(".py"):
                data = CONSTANTS.sub(lambda run: b"".join(sorted(run.group().splitlines(keepends=True))), data)
            target.writestr(record, data)
    return output.getvalue()


def write(path: Path, data: bytes) -> None:
    """Writes a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_graphs(directory: Path) -> list[dict[str, Any]]:
    """The graphs in `directory`/manifest.json, without those of older versions, which name no class."""
    path = directory / "manifest.json"
    graphs = json.loads(path.read_text())["graphs"] if path.exists() else []
    return [graph for graph in graphs if "class" in graph]


def read_networks(checkpoint: Path) -> list[tuple[str, str, Any]]:
    """The (folder, class, configuration) of each network. Raises ValueError for what cannot be honoured."""
    family = find_family(json.loads((checkpoint / "model_index.json").read_text()))
    configs = {folder: json.loads((checkpoint / folder / "config.json").read_text()) for folder in family.networks}
    return [
        (folder, name, NETWORKS[name].configuration.from_config(configs[folder]))
        for folder, name in family.networks.items()
    ]


def defaults() -> dict[str, Any]:
    """The values of the keys that a config.json leaves out, by the network's class."""
    return {name: plain(network.configuration()) for name, network in NETWORKS.items()}


def export(checkpoint: Path, output: Path, name: str | None) -> None:
    """Writes the graphs of a checkpoint's networks into `output`, and describes them in `output`/manifest.json.

    An architecture that the manifest has already, under another name, is not written again.
    """
    networks = read_networks(checkpoint)
    graphs = read_graphs(output)
    fresh: list[dict[str, Any]] = []
    for folder, network_class, configuration in networks:
        file = f"{name}/{folder}.pt" if name else f"{folder}.pt"
        architecture = plain(configuration)
        graphs = [graph for graph in graphs if graph["file"] != file]
        same = [graph for graph in graphs if graph["class"] == network_class and graph["architecture"] == architecture]
        if same:
            print(f"{file}: same as {same[0]['file']}")
            continue
        graph = {
            "class": network_class,
            "component": folder,
            "file": file,
            "sha256": "",
            "architecture": architecture,
        }
        float32 = float32_parameters(network_class, configuration)
        fresh.append({**graph, "float32": float32} if float32 else graph)
    configurations = {folder: configuration for folder, _, configuration in networks}
    archives = script_all([(graph["class"], configurations[graph["component"]]) for graph in fresh])
    for graph, archive in zip(fresh, archives):
        write(output / graph["file"], archive)
        graph["sha256"] = hashlib.sha256(archive).hexdigest()
        print(f"{graph['file']}: {len(archive) // 1024} kB")
    manifest = {
        "torch": TORCH,
        "defaults": defaults(),
        "graphs": sorted(graphs + fresh, key=lambda graph: str(graph["file"])),
    }
    write(output / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())


def check(directory: Path) -> bool:
    """Whether the graphs in `directory` are those that these sources export for the architectures in its manifest."""
    manifest = json.loads((directory / "manifest.json").read_text())
    graphs = read_graphs(directory)
    same = bool(graphs)
    if not same:
        print(f"{directory}: no graphs in manifest.json")
    if manifest["defaults"] != defaults():
        same = False
        print(f"{directory}/manifest.json: the defaults differ from the sources'")
    configurations = [NETWORKS[graph["class"]].configuration.from_config(graph["architecture"]) for graph in graphs]
    archives = script_all([(graph["class"], configuration) for graph, configuration in zip(graphs, configurations)])
    for graph, configuration, archive in zip(graphs, configurations, archives):
        path = directory / graph["file"]
        committed = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
        agrees = committed == graph["sha256"] == hashlib.sha256(archive).hexdigest()
        agrees = agrees and graph.get("float32", []) == float32_parameters(graph["class"], configuration)
        print(f"{path}: {'as exported' if agrees else 'differs'}")
        same = same and agrees
    return same


def compile_step(checkpoint: Path, output: Path, arguments: argparse.Namespace) -> None:
    """Writes the checkpoint's UNet, compiled for the arguments' size, device and dtype, into a package."""
    from compile_denoiser import Wanted, compile_denoiser  # slow to import, and only needed here

    networks = {name: configuration for _, name, configuration in read_networks(checkpoint)}
    if "UNet3DConditionModel" not in networks:
        raise ValueError(f"only a UNet3DConditionModel can be compiled; {checkpoint} has {', '.join(networks)}")
    unet, text_encoder = networks["UNet3DConditionModel"], networks["CLIPTextModel"]
    vae = networks["AutoencoderKL"]
    graphs = [
        graph["sha256"]
        for directory in (Path(__file__).parent / "graphs", checkpoint / "graphs")
        for graph in read_graphs(directory)
        if graph["class"] == "UNet3DConditionModel" and graph["architecture"] == plain(unet)
    ]
    if not graphs:
        raise FileNotFoundError(f"no graph of this architecture: run export.py {checkpoint} without --compile first")
    scale = 2 ** (len(vae.block_out_channels) - 1)
    own_size = json.loads((checkpoint / "unet" / "config.json").read_text()).get("sample_size", 32) * scale
    device = arguments.device or "cpu"
    wanted = Wanted(
        graph=graphs[0],
        device=device,
        dtype=arguments.dtype or ("float32" if device == "cpu" else "float16"),
        frames=16 if arguments.frames is None else arguments.frames,
        height=arguments.height or own_size,
        width=arguments.width or own_size,
        scale=scale,
        tokens=text_encoder.max_position_embeddings,
        guidance=not arguments.without_guidance,
    )
    if wanted.frames < 1 or any(side < scale or side % scale for side in (wanted.height, wanted.width)):
        raise ValueError(f"frames must be 1 or more, height and width multiples of {scale}")
    package = compile_denoiser(unet, wanted)
    write(output, package)
    print(f"{output}: {len(package) // 1024} kB")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Script a checkpoint's networks into TorchScript graphs without weights, or compile its UNet."
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="folder with model_index.json and the networks' configs")
    parser.add_argument("--output", type=Path, help="folder for the graphs and manifest.json [CHECKPOINT/graphs]")
    parser.add_argument("--name", help="subfolder of the output for this architecture")
    parser.add_argument(
        "--check", type=Path, nargs="+", metavar="DIR", help="compare the graphs in DIR to a new export"
    )
    compiling = parser.add_argument_group("compile the UNet's step, for the machine that this runs on")
    compiling.add_argument("--compile", type=Path, metavar="FILE.pt2", help="the package to write")
    compiling.add_argument("--device", choices=("cpu", "cuda"), help="[cpu]")
    compiling.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="[float32 on cpu, else float16]")
    compiling.add_argument("--frames", type=int, help="of the video, or of a window [16]")
    compiling.add_argument("--height", type=int, help="pixels [the checkpoint's own]")
    compiling.add_argument("--width", type=int, help="pixels [the checkpoint's own]")
    compiling.add_argument(
        "--without-guidance", action="store_true", default=None, help="for calls with guidanceScale 1 or less"
    )
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) == (arguments.check is None):
        parser.error("give a checkpoint folder, or --check and folders of graphs")
    if arguments.compile and arguments.check:
        parser.error("--compile takes a checkpoint folder, not --check")
    of_compiling = ("device", "dtype", "frames", "height", "width", "without_guidance")
    for option in ("output", "name") if arguments.compile else of_compiling:
        if getattr(arguments, option) is not None:
            where = "not" if arguments.compile else "only"
            parser.error(f"--{option.replace('_', '-')} is {where} for --compile")
    if arguments.compile:  # any version of torch will do: the package is for the libtorch of that version
        try:
            compile_step(arguments.checkpoint, arguments.compile, arguments)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            print(f"export.py: {error}", file=sys.stderr)
            return 2
        return 0
    if torch.__version__.split("+")[0] != TORCH:
        print(f"export.py needs torch {TORCH}; this is {torch.__version__}", file=sys.stderr)
        return 2
    if arguments.check:
        return 0 if all([check(directory) for directory in arguments.check]) else 1
    try:
        export(arguments.checkpoint, arguments.output or arguments.checkpoint / "graphs", arguments.name)
    except (OSError, ValueError) as error:
        print(f"export.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
