"""The world of the model `shapes`: draws clips of one moving object, and writes captions in varying words."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

SIDE: Final = 64
"""Height and width of a frame in pixels."""

FRAMES: Final = 16
"""Frames of a default clip, at 8 frames per second."""

SPEED: Final = 1.75
"""The speed of a moving object, in pixels per frame."""

SIZES: Final[Mapping[str, float]] = {"small": 7.5, "big": 13.0}
"""Radius in pixels of the circle that has the object's area, for every shape."""

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "red": (230, 30, 35),
    "green": (30, 190, 60),
    "blue": (40, 80, 240),
    "yellow": (250, 225, 35),
    "orange": (250, 130, 15),
    "purple": (140, 40, 190),
    "pink": (255, 140, 195),
    "white": (250, 250, 250),
}

SHAPES: Final = ("circle", "square", "triangle", "star")

MOTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}
"""Directions in the image, x to the right, y down."""

BACKGROUNDS: Final[Mapping[str, tuple[int, int, int]]] = {
    "black": (0, 0, 0),
    "white": (240, 240, 240),
    "gray": (125, 125, 125),
    "blue": (25, 45, 110),
    "green": (20, 85, 45),
}
"""The first is the default of a caption that names none."""


@dataclass(frozen=True)
class Scene:
    """The content of a clip, in the words above. `middle` is the object's centre halfway through the clip."""

    size: str
    colour: str
    shape: str
    motion: str
    background: str
    middle: tuple[float, float] = (SIDE / 2, SIDE / 2)


@dataclass(frozen=True)
class Wish:
    """The properties in a caption. None: the seed decides. The default background is the first one."""

    size: str | None
    colour: str | None
    shape: str | None
    motion: str | None
    background: str | None


def held_out(scene: Scene) -> bool:
    """Whether the combination of colour, shape and motion is in the tenth that is not in the training data."""
    colour = list(COLOURS).index(scene.colour)
    motion = list(MOTIONS).index(scene.motion)
    return (colour + 2 * SHAPES.index(scene.shape) + 3 * motion) % 10 == 7


def random_scene(random_: random.Random) -> Scene:
    """A random scene whose object and background have different colour names."""
    background = random_.choice(list(BACKGROUNDS)) if random_.random() < 0.6 else next(iter(BACKGROUNDS))
    size = random_.choice(list(SIZES))
    motion = random_.choice(list(MOTIONS))
    along, across = 3.0, SIDE / 2 - 1.55 * SIZES[size] - 1
    x, y = MOTIONS[motion]
    return Scene(
        size=size,
        colour=random_.choice([colour for colour in COLOURS if colour != background]),
        shape=random_.choice(SHAPES),
        motion=motion,
        background=background,
        middle=(
            SIDE / 2 + random_.uniform(-1, 1) * (along if x else across),
            SIDE / 2 + random_.uniform(-1, 1) * (along if y else across),
        ),
    )


def training_scene(random_: random.Random) -> Scene:
    while True:
        scene = random_scene(random_)
        if not held_out(scene):
            return scene


# ---- drawing ---------------------------------------------------------------------------------------------------------


def centres(scenes: Sequence[Scene], frames: int) -> Tensor:
    """(B, F, 2): x and y of the objects' centres in pixels."""
    middle = torch.tensor([scene.middle for scene in scenes])
    step = SPEED * torch.tensor([MOTIONS[scene.motion] for scene in scenes], dtype=torch.float32)
    time = torch.arange(frames) - (frames - 1) / 2
    return middle[:, None] + step[:, None] * time[None, :, None]


def distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance in pixels, negative inside, of points from an outline around (0, 0) with the area π·radius²."""
    if shape == "circle":
        return torch.hypot(x, y) - radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - radius * math.sqrt(math.pi) / 2
    if shape == "triangle":
        inner = radius * math.sqrt(math.pi / math.sqrt(27))
        return torch.maximum(y, x.abs() * math.cos(math.pi / 6) - y / 2) - inner
    # A star of five points, folded into the half of one point, where the outline is one straight edge.
    waist, half = 0.45, math.pi / 5
    outer = radius * math.sqrt(math.pi / (5 * waist * math.sin(half)))
    angle = torch.remainder(torch.atan2(x, -y) + half, 2 * half).sub(half).abs()
    length = torch.hypot(x, y)
    along, across = length * angle.cos() - outer, length * angle.sin()
    edge_x, edge_y = waist * math.cos(half) - 1, waist * math.sin(half)
    return (along * edge_y - across * edge_x) / math.hypot(edge_x, edge_y)


def coverage(scenes: Sequence[Scene], frames: int) -> Tensor:
    """(B, F, 64, 64): the fraction of each pixel that the object covers, 0 to 1."""
    centre = centres(scenes, frames)
    pixel = torch.arange(SIDE) + 0.5
    x = (pixel - centre[..., 0, None])[:, :, None, :]
    y = (pixel - centre[..., 1, None])[:, :, :, None]
    radius = torch.tensor([SIZES[scene.size] for scene in scenes])[:, None, None, None]
    covered = torch.empty(len(scenes), frames, SIDE, SIDE)
    for shape in SHAPES:
        rows = [index for index, scene in enumerate(scenes) if scene.shape == shape]
        if rows:
            outline = distance(shape, *torch.broadcast_tensors(x[rows], y[rows]), radius[rows])
            covered[rows] = (0.5 - outline).clamp(0, 1)
    return covered


def paint(scenes: Sequence[Scene], covered: Tensor) -> Tensor:
    """covered: (B, F, 64, 64). Returns the clips (B, F, 3, 64, 64) in [-1, 1]."""
    colour = torch.tensor([COLOURS[scene.colour] for scene in scenes]) / 127.5 - 1
    ground = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes]) / 127.5 - 1
    ground = ground[:, None, :, None, None]
    return ground + (colour[:, None, :, None, None] - ground) * covered[:, :, None]


# ---- captions --------------------------------------------------------------------------------------------------------

SIZE_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "small": ("small", "small", "little", "tiny"),
    "big": ("big", "big", "large", "huge"),
}
SHAPE_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "circle": ("circle", "circle", "circle", "disc", "ball"),
    "square": ("square", "square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
}
ANY_SHAPE: Final = ("shape", "object", "thing", "something")
VERBS: Final = (
    *("moving", "moving", "moving", "moves", "going", "goes", "sliding", "slides", "flying", "flies"),
    *("drifting", "drifts", "travelling", "traveling", "gliding", "floating", "running", "that moves", "which goes"),
)
WAYS: Final[Mapping[str, Sequence[str]]] = {
    "left": ("left", "left", "to the left", "leftward", "leftwards", "towards the left", "from right to left"),
    "right": ("right", "right", "to the right", "rightward", "rightwards", "towards the right", "from left to right"),
    "up": ("up", "up", "upward", "upwards", "to the top", "towards the top"),
    "down": ("down", "down", "downward", "downwards", "to the bottom", "towards the bottom"),
}
MOTION_PHRASES: Final[Mapping[str, Sequence[str]]] = {
    "up": ("rising", "rises"),
    "down": ("falling", "falls", "sinking"),
    "still": (
        *("standing still", "standing still", "stands still", "not moving", "that does not move", "motionless"),
        *("at rest", "resting", "staying still", "that stays", "staying in place", "still", "stationary"),
    ),
}
GROUND_WORDS: Final[Mapping[str, Sequence[str]]] = {"gray": ("gray", "gray", "grey")}
GROUND_FORMS: Final = (
    *("on a {} background", "on a {} background", "on a {} background", "on {}", "against a {} background"),
    *("on the {} background", "over a {} background", "in front of a {} background", "with a {} background"),
    *("{} background", "the background is {}", "background {}"),
)
OPENINGS: Final = (
    "a video of",
    "video of",
    "a clip of",
    "an animation of",
    "show me",
    "there is",
    "here is",
    "please draw",
)
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def random_wish(scene: Scene, random_: random.Random) -> Wish:
    """The properties in a caption of the scene: all of them, or with some left out."""
    if random_.random() < 0.4:
        said = {"size", "colour", "shape", "motion"}
    else:
        chances = {"size": 0.6, "colour": 0.85, "shape": 0.85, "motion": 0.85}
        said = {key for key, chance in chances.items() if random_.random() < chance}
    usual = scene.background == next(iter(BACKGROUNDS))
    return Wish(
        size=scene.size if "size" in said else None,
        colour=scene.colour if "colour" in said else None,
        shape=scene.shape if "shape" in said else None,
        motion=scene.motion if "motion" in said else None,
        background=None if usual and random_.random() < 0.75 else scene.background,
    )


def motion_phrase(motion: str, random_: random.Random) -> str:
    special = MOTION_PHRASES.get(motion, ())
    if motion not in WAYS or (special and random_.random() < 0.3):
        return random_.choice(special)
    way = random_.choice(WAYS[motion])
    return f"{random_.choice(VERBS)} {way}" if random_.random() < 0.9 else way


def caption(wish: Wish, random_: random.Random) -> str:
    """A caption for a wish, with varying wording, case and order."""
    article = random_.choice(("a", "a", "a", "the", "one", ""))
    noun = random_.choice(SHAPE_WORDS[wish.shape] if wish.shape else ANY_SHAPE)
    size = random_.choice(SIZE_WORDS[wish.size]) if wish.size else ""
    colour = wish.colour or ""
    before, after = [size, colour], []
    if random_.random() < 0.2:  # "a circle, red, big"
        after = [word for word in before if word]
        before = []
        random_.shuffle(after)
    elif random_.random() < 0.15:
        before.reverse()
    if noun == "something":
        article, after, before = "", [*before, *after], []
    phrase = ", ".join([" ".join(word for word in (article, *before, noun) if word), *after])
    motion = motion_phrase(wish.motion, random_) if wish.motion else ""
    ground = ""
    if wish.background:
        word = random_.choice(GROUND_WORDS.get(wish.background, (wish.background,)))
        ground = random_.choice(GROUND_FORMS).format(word)
    comma = random_.choice((" ", " ", " ", ", "))
    order = random_.random()
    if order < 0.7:
        parts = [phrase, motion, ground]
    elif order < 0.8:
        parts, comma = [ground, phrase, motion], ", "
    elif order < 0.9:
        parts, comma = [motion, phrase, ground], random_.choice((", ", ": ", " "))
    else:
        parts = [phrase, ground, motion]
    text = comma.join(part for part in parts if part)
    if random_.random() < 0.1:
        text = f"{random_.choice(OPENINGS)} {text}"
    if random_.random() < 0.08:  # An unknown word.
        words = text.split(" ")
        unknown = "".join(random_.choice(LETTERS) for _ in range(random_.randint(2, 5)))
        words.insert(random_.randrange(len(words) + 1), unknown)
        text = " ".join(words)
    return text + "." if random_.random() < 0.1 else text


def words() -> list[str]:
    """All words of captions except the unknown ones, in lower case, sorted."""
    texts = [
        *SIZES, *COLOURS, *SHAPES, *MOTIONS, *BACKGROUNDS, *ANY_SHAPE, *VERBS, *OPENINGS, "a", "an", "the", "one", "and",
        *(text.replace("{}", "") for text in GROUND_FORMS),
        *(text for table in (SIZE_WORDS, SHAPE_WORDS, WAYS) for row in table.values() for text in row),
        *(text for table in (MOTION_PHRASES, GROUND_WORDS) for row in table.values() for text in row),
    ]  # fmt: skip
    return sorted({word for text in texts for word in text.split()})
