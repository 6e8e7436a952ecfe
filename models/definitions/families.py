"""The families of models: the networks of each kind of checkpoint, by their folders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .autoencoder_kl import AutoencoderKL, AutoencoderKLConfiguration
from .clip_text import CLIPTextConfiguration, CLIPTextModel
from .unet3d import UNet3DConditionModel, UNet3DConfiguration


@dataclass(frozen=True)
class Network:
    configuration: Any
    module: Callable[[Any], nn.Module]
    float32: tuple[str, ...] = ()
    """Parts of the names of parameters that stay float32 whatever dtype the network computes in."""


@dataclass(frozen=True)
class Family:
    pipelines: tuple[str, ...]
    """The values of `_class_name` in model_index.json."""
    networks: Mapping[str, str]
    """The class of each network, by its folder in a checkpoint."""


NETWORKS: Mapping[str, Network] = {
    "AutoencoderKL": Network(AutoencoderKLConfiguration, AutoencoderKL),
    "CLIPTextModel": Network(CLIPTextConfiguration, CLIPTextModel),
    "UNet3DConditionModel": Network(UNet3DConfiguration, UNet3DConditionModel),
}
"""By the class that published configs name."""

FAMILIES = (
    Family(
        ("TextToVideoSDPipeline", "VideoToVideoSDPipeline"),
        {"text_encoder": "CLIPTextModel", "unet": "UNet3DConditionModel", "vae": "AutoencoderKL"},
    ),
)


def find_family(index: Mapping[str, Any]) -> Family:
    """The family of a checkpoint, by the content of its model_index.json. Raises ValueError for any other class."""
    pipeline = index.get("_class_name")
    for family in FAMILIES:
        if pipeline in family.pipelines:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    raise ValueError(f"model_index.json: _class_name must be one of {known}; received {pipeline!r}")
