"""The fixed list of prompts for judging `shapes`. Every tenth is a combination that is not in the training data.

python -m training.prompts > ../bench/shapes_prompts.json      # in models/
"""

import dataclasses
import json
import random
from typing import Final

from .world import BACKGROUNDS, Wish, caption, held_out, random_scene, random_wish

PROMPTS: Final = 240


def prompts() -> list[dict[str, object]]:
    """Each prompt with its properties. Null: the seed decides."""
    random_ = random.Random("prompts")
    rows: list[dict[str, object]] = []
    while len(rows) < PROMPTS:
        scene = random_scene(random_)
        wanted = len(rows) % 10 == 9
        if held_out(scene) != wanted:
            continue
        wish = random_wish(scene, random_)
        if wanted:
            wish = Wish(wish.size, scene.colour, scene.shape, scene.motion, wish.background)
        text = caption(wish, random_)
        said = dataclasses.asdict(wish) | {"background": wish.background or next(iter(BACKGROUNDS))}
        rows.append({"prompt": text, "heldOut": wanted, **said})
    return rows


if __name__ == "__main__":
    print("[\n" + ",\n".join("  " + json.dumps(row) for row in prompts()) + "\n]")
