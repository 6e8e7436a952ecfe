"""Compiles the UNet's step with AOTInductor: machine code for one size, device and dtype, and no weights.

The result is a package (.pt2) with a shared library, which the core runs instead of the graph's `forward`. The library's
constants have the names of the graph's parameters, and the core passes it the weights that it has placed. On a CPU the
library calls the core's operators by name.
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
"""Prefixes of the flags in /proc/cpuinfo that allow the compiler to use more instructions."""


@dataclass(frozen=True)
class Wanted:
    """The only case that the compiled step is for."""

    graph: str
    """sha256 of the graph whose `forward` it replaces."""
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
    """L, the tokens of a prompt"""
    guidance: bool
    """True: each call is for the pair of negative prompt and prompt. False: for the prompt alone."""


def instruction_sets() -> list[str]:
    """The instruction sets of this machine's processor that the compiled code may use."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return sorted(flag for flag in flags[1].split() if INSTRUCTION_SET.match(flag)) if flags else []


def network_of(configuration: UNet3DConfiguration, wanted: Wanted) -> UNet3DConditionModel:
    """The network with random weights: Inductor would fold weights that are all equal into the code.

    They have the core's memory layout, which is channels last on a GPU.
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
    """Compiles the package. Needs minutes, a C++ compiler, and for CUDA a GPU of the same kind.

    Raises RuntimeError or one of Inductor's own errors if there is no such device or no compiler.
    """
    import torch._inductor  # not needed for anything else here, and slow to import

    about = {**asdict(wanted), "torch": torch.__version__, "instructionSets": instruction_sets()}
    options = {
        "aot_inductor.package_constants_in_so": False,
        "always_keep_tensor_constants": True,  # no weight becomes code, not even a small one
        "aot_inductor.embed_kernel_binary": True,  # GPU kernels are in the same file
        "cpp.dynamic_threads": True,  # the pipeline's thread count, not this process's
        "aot_inductor.precompile_headers": False,  # slower for a single package, and leaves files behind
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
