"""Compiles the UNet's step with AOTInductor: machine code for one size, device and dtype, and no weights.

What comes of it is a package (.pt2) with a shared library that the core loads in place of the graph's `forward`. The
library names its constants as the graph does, and the core hands it the weights that it placed. On a CPU it calls the
operators of the core by name.
"""

import io
import json
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from definitions.unet3d import UNet3DConditionModel, UNet3DConfiguration

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

INSTRUCTION_SET = re.compile(r"sse|ssse|avx|fma|f16c|bmi|amx|gfni|vaes|vpclmulqdq")
"""How flags in /proc/cpuinfo begin that the compiler takes as leave to use more instructions."""


@dataclass(frozen=True)
class Wanted:
    """What a step is compiled for. It fits nothing else."""

    graph: str
    """sha256 of the graph whose `forward` it stands for."""
    device: str
    """cpu or cuda"""
    dtype: str
    frames: int
    height: int
    """pixels"""
    width: int
    """pixels"""
    scale: int
    """Pixels per latent in each direction."""
    tokens: int
    """L, of each prompt"""
    guidance: bool
    """Whether each call is for the pair of the negative prompt and the prompt, or for the prompt alone."""


def instruction_sets() -> list[str]:
    """What the compiled code may use of this machine's processor."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return sorted(flag for flag in flags[1].split() if INSTRUCTION_SET.match(flag)) if flags else []


def network_of(configuration: UNet3DConfiguration, wanted: Wanted) -> UNet3DConditionModel:
    """The network with random weights, since Inductor computes with ones that are all the same at once.

    They are laid out as the core hands them over: on a GPU with channels last.
    """
    with torch.device("meta"):
        network = UNet3DConditionModel(configuration).to(DTYPES[wanted.dtype])
    network.to_empty(device=wanted.device).eval()
    layouts = {} if wanted.device == "cpu" else {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        parameter.data = parameter.data.normal_().contiguous(
            memory_format=layouts.get(parameter.dim(), torch.contiguous_format)
        )
    return network


def compile_denoiser(configuration: UNet3DConfiguration, wanted: Wanted) -> bytes:
    """The package. Takes minutes, a C++ compiler, and for CUDA a GPU of the kind that it is for.

    Raises RuntimeError, or what Inductor has of its own, where there is no such device or no compiler.
    """
    import torch._inductor  # not needed for anything else here, and slow to import

    about = {**asdict(wanted), "torch": torch.__version__, "instructionSets": instruction_sets()}
    options = {
        "aot_inductor.package_constants_in_so": False,
        "always_keep_tensor_constants": True,  # small ones, too: no weight becomes code
        "aot_inductor.embed_kernel_binary": True,  # one file holds all: kernels of a GPU, too
        "cpp.dynamic_threads": True,  # as many as the pipeline has, not as this process
        "aot_inductor.precompile_headers": False,  # more work for one package, and files that stay
        "aot_inductor.metadata": {"torchreel": json.dumps(about)},
    }
    device, dtype = wanted.device, DTYPES[wanted.dtype]
    size = (wanted.frames, wanted.height // wanted.scale, wanted.width // wanted.scale)
    texts = (2 if wanted.guidance else 1, wanted.tokens, configuration.cross_attention_dim)
    package = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = network_of(configuration, wanted)
        sample = torch.zeros((1, configuration.in_channels, *size), device=device, dtype=dtype)
        timestep = torch.zeros((), device=device)
        context = network.prepare(torch.zeros(texts, device=device, dtype=dtype))
        program = torch.export.export(network, (sample, timestep, context), strict=False)
        torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=options)
    return package.getvalue()
