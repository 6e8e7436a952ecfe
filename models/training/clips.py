"""The clips that the UNet of `shapes` is trained on, as latents."""

import random
from typing import Final

import torch
from torch import Tensor

from definitions.autoencoder_kl import AutoencoderKL

from .text import CHOICES
from .vae import encode
from .world import FRAMES, SIDE, Scene, Wish, caption, centres, coverage, paint, random_wish, training_scene

LONGEST: Final = 24
"""Frames of a clip in the pool. Shorter clips are cut from it."""

CAPACITY: Final = 3000
"""Clips in a full pool."""

DROPOUT: Final = 0.1
"""The fraction of captions that are dropped, for classifier-free guidance (https://arxiv.org/abs/2207.12598)."""


class Batch:
    """latents: (B, C, F, 8, 8); centres: (B, F, 2) from -1 to 1 across the frame; classes: (B, properties)."""

    def __init__(self, latents: Tensor, places: Tensor, classes: Tensor, captions: list[str]) -> None:
        self.latents = latents
        self.centres = places
        self.classes = classes
        self.captions = captions


class ClipPool:
    """A pool of encoded clips. It grows until it is full, because encoding is expensive. Captions and noise are always new."""

    def __init__(self, vae: AutoencoderKL, seed: int) -> None:
        self.vae = vae
        self.seed = seed
        self.scenes: list[Scene] = []
        self.latents: list[Tensor] = []

    @torch.no_grad()
    def grow(self, count: int, device: torch.device) -> None:
        for _ in range(min(count, CAPACITY - len(self.scenes))):
            scene = training_scene(random.Random(f"{self.seed} clip {len(self.scenes)}"))
            still = scene.motion == "still"
            images = paint([scene], coverage([scene], 1 if still else LONGEST))[0]
            latents = encode(self.vae, images.to(device)).transpose(0, 1).half()
            self.latents.append(latents.expand(-1, LONGEST, -1, -1) if still else latents)
            self.scenes.append(scene)

    def batch(self, step: int, count: int, early: bool) -> Batch:
        """The batch of a step. early: shorter clips, so that the network sees more of them in the same time."""
        random_ = random.Random(f"{self.seed} step {step}")
        weights = (70, 10, 20, 0) if early else (25, 10, 58, 7)
        frames = random_.choices((8, 12, FRAMES, LONGEST), weights)[0]
        count = max(4, count * FRAMES // frames)
        chosen = [random_.randrange(len(self.scenes)) for _ in range(count)]
        scenes = [self.scenes[index] for index in chosen]
        slack = LONGEST - frames
        shift = [slack // 2 + random_.randint(-min(3, slack // 2), min(3, slack // 2)) for _ in chosen]
        latents = torch.stack([self.latents[index][:, at : at + frames] for index, at in zip(chosen, shift)]).float()
        paths = centres(scenes, LONGEST)
        places = torch.stack([path[at : at + frames] for path, at in zip(paths, shift)]) / (SIDE / 2) - 1
        classes = torch.tensor([[row.index(getattr(scene, key)) for key, row in CHOICES.items()] for scene in scenes])
        captions = ["" if random_.random() < DROPOUT else caption(random_wish(scene, random_), random_) for scene in scenes]
        return Batch(latents, places, classes, captions)


def fixed_wishes(seed: int, count: int) -> tuple[list[Wish], list[str]]:
    """Fixed wishes with all properties, and captions for them, to watch the training by."""
    random_ = random.Random(seed)
    scenes = [training_scene(random_) for _ in range(count)]
    usual = [None if scene.background == "black" else scene.background for scene in scenes]
    wishes = [Wish(scene.size, scene.colour, scene.shape, scene.motion, ground) for scene, ground in zip(scenes, usual)]
    return wishes, [caption(wish, random_) for wish in wishes]
