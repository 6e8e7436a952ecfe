"""Training of the text encoder of `shapes`: it learns to classify captions, then stays fixed."""

import random
import sys
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from definitions.clip_text import CLIPTextConfiguration, CLIPTextModel

from .optimizer import Optimizer, initialise, schedule
from .vocabulary import LENGTH, Vocabulary
from .world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIZES, Wish, caption, random_scene, random_wish

CHOICES: Final = {
    "size": list(SIZES),
    "colour": list(COLOURS),
    "shape": list(SHAPES),
    "motion": list(MOTIONS),
    "background": list(BACKGROUNDS),
}
STEPS: Final = 1200
BATCH: Final = 64


class Reader(nn.Module):
    """The text encoder, and linear heads for training only, which classify the caption (class 0: property not named)."""

    def __init__(self, configuration: CLIPTextConfiguration) -> None:
        super().__init__()
        self.encoder = CLIPTextModel(configuration)
        self.heads = nn.ModuleDict({key: nn.Linear(configuration.hidden_size, 1 + len(row)) for key, row in CHOICES.items()})


def classes(wishes: list[Wish]) -> dict[str, Tensor]:
    """(N) per property: 0 if the caption does not name it, else 1 + the index of the choice."""
    found: dict[str, Tensor] = {}
    for key, row in CHOICES.items():
        values = [getattr(wish, key) for wish in wishes]
        found[key] = torch.tensor([0 if value is None else 1 + row.index(value) for value in values])
    return found


def train_text_encoder(configuration: CLIPTextConfiguration, vocabulary: Vocabulary, device: torch.device) -> CLIPTextModel:
    """The loss. All positions from the end token on see the whole caption, and each must classify all of it."""
    reader = Reader(configuration)
    initialise(reader)
    reader.to(device)
    optimizer = Optimizer(reader, 3e-3, 3e-3, ("embedding", "heads"))
    random_ = random.Random(1)
    for step in range(STEPS):
        wishes = [random_wish(random_scene(random_), random_) for _ in range(BATCH)]
        if step % 4 == 0:
            wishes[0] = Wish(None, None, None, None, None)
        texts = [caption(wish, random_) for wish in wishes]
        if step % 4 == 0:
            texts[0] = ""
        ids = torch.tensor([vocabulary.encode(text) for text in texts], device=device)
        hidden = reader.encoder(ids, 0)
        end = (ids == vocabulary.ids["<|endoftext|>"]).int().argmax(1)
        seen = torch.arange(LENGTH, device=device) >= end[:, None]
        loss = torch.zeros((), device=device)
        right = torch.ones(BATCH, dtype=torch.bool, device=device)
        for key, answer in classes(wishes).items():
            answer = answer.to(device)
            logits = reader.heads[key](hidden)
            loss = loss + F.cross_entropy(logits[seen], answer[:, None].expand(-1, LENGTH)[seen])
            right &= logits[torch.arange(BATCH), end].argmax(-1) == answer
        loss.backward()
        optimizer.step(schedule(step / STEPS))
        if step % 100 == 99:
            print(f"text {step + 1}/{STEPS}  loss {loss.item():.4f}  right {right.float().mean().item():.2f}", flush=True)
    if right.float().mean() < 0.9:
        print("text: the encoder did not learn to read", file=sys.stderr)
    return reader.encoder.eval().requires_grad_(False)
