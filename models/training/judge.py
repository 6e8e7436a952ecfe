"""Recognises the content of a clip from its pixels. The official judge is test/support/shapes_judge.ts."""

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from .world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SIDE, SIZES, Wish, distance

LEAST_AREA: Final = 40.0
"""The smallest area of an object, in pixels."""


def nearest(colour: Tensor, names: Mapping[str, tuple[int, int, int]]) -> str:
    """colour: (3) in 0 to 255."""
    return min(names, key=lambda name: float((torch.tensor(names[name]) - colour).square().sum()))


def judge(clip: Tensor) -> dict[str, str | None]:
    """clip: (F, 3, 64, 64) around [-1, 1]. Returns the world's word for each property, or None."""
    pixels = ((clip.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1)
    border = torch.cat([pixels[:, 0].flatten(0, 1), pixels[:, -1].flatten(0, 1), pixels[:, :, 0].flatten(0, 1)])
    ground = border.median(0).values
    found: dict[str, str | None] = dict.fromkeys(("size", "colour", "shape", "motion"), None)
    found["background"] = nearest(ground, BACKGROUNDS)
    away = (pixels - ground).square().sum(-1)
    strongest = away.flatten().topk(40 * len(pixels)).indices
    colour = pixels.reshape(-1, 3)[strongest].median(0).values
    reach = colour - ground
    if float(reach.norm()) < 40:
        return found
    covered = ((pixels - ground) @ reach / reach.square().sum()).clamp(0, 1)
    covered = torch.where(covered < 0.25, 0, covered)
    area = covered.sum((1, 2))
    if float(area.median()) < LEAST_AREA:
        return found
    position = torch.arange(SIDE) + 0.5
    x = (covered.sum(1) * position).sum(1) / area.clamp(min=1)
    y = (covered.sum(2) * position).sum(1) / area.clamp(min=1)
    radius = (area / math.pi).sqrt()
    found["colour"] = nearest(colour, COLOURS)
    found["size"] = min(SIZES, key=lambda name: abs(math.log(SIZES[name] / float(radius.median()))))
    quarter = max(1, len(pixels) // 4)
    dx = float(x[-quarter:].mean() - x[:quarter].mean())
    dy = float(y[-quarter:].mean() - y[:quarter].mean())
    if max(abs(dx), abs(dy)) < 4:
        found["motion"] = "still"
    else:
        found["motion"] = max(MOTIONS, key=lambda name: dx * MOTIONS[name][0] + dy * MOTIONS[name][1])
    overlap: dict[str, float] = {}
    column, row = torch.broadcast_tensors(position - x[:, None, None], position[:, None] - y[:, None, None])
    for shape in SHAPES:
        drawn = (0.5 - distance(shape, column, row, radius[:, None, None])).clamp(0, 1)
        both, either = torch.minimum(drawn, covered), torch.maximum(drawn, covered)
        overlap[shape] = float((both.sum((1, 2)) / either.sum((1, 2))).sum())
    found["shape"] = max(overlap, key=lambda shape: overlap[shape])
    return found


def agreement(clips: Tensor, wishes: list[Wish]) -> dict[str, tuple[int, int]]:
    """clips: (B, F, 3, 64, 64). Returns for each property the number of correct clips, and of clips whose prompt names it."""
    counts = {key: [0, 0] for key in ("colour", "background", "motion", "shape", "size")}
    for clip, wish in zip(clips, wishes):
        found = judge(clip)
        for key, count in counts.items():
            said = getattr(wish, key) if key != "background" else wish.background or next(iter(BACKGROUNDS))
            if said is not None:
                count[0] += found[key] == said
                count[1] += 1
    return {key: (right, said) for key, (right, said) in counts.items()}
