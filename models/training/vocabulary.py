"""The vocabulary of `shapes` in CLIP's byte-pair format, small enough that each word of the captions is one token."""

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Final

from .world import words

LENGTH: Final = 24
"""Positions of the text encoder."""

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
WORD_END: Final = "</w>"
CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;=?@_"
PIECES: Final = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+")
"""CLIP's rule for splitting lower-case text into words."""


def _symbols(word: str) -> list[str]:
    return [*word[:-1], word[-1] + WORD_END]


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def learn_merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding (https://arxiv.org/abs/1508.07909). Merges the most frequent pair until each word is one token."""
    spelled = [_symbols(word) for word in vocabulary]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for symbols in spelled for pair in zip(symbols, symbols[1:]))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merge(symbols, best) for symbols in spelled]


class Vocabulary:
    """Token ids of captions, the same as CLIP's tokenizer with the files that `save` writes."""

    def __init__(self) -> None:
        self.merges = learn_merges(words())
        tokens = [*CHARACTERS, *(character + WORD_END for character in CHARACTERS)]
        tokens += ["".join(pair) for pair in self.merges]
        tokens += [START, END]
        self.ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}

    def __len__(self) -> int:
        return len(self.ids)

    @lru_cache(maxsize=4096)  # noqa: B019 - lives as long as the program
    def _word(self, word: str) -> tuple[int, ...]:
        symbols = _symbols(word)
        for pair in self.merges:
            symbols = _merge(symbols, pair)
        return tuple(self.ids.get(symbol, self.ids[END]) for symbol in symbols)

    def encode(self, text: str) -> list[int]:
        """LENGTH ids: start token, words, end token, and the end token again as padding."""
        ids = [id_ for word in PIECES.findall(text.lower()) for id_ in self._word(word)][: LENGTH - 2]
        return [self.ids[START], *ids] + [self.ids[END]] * (LENGTH - 1 - len(ids))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        merges = "".join(f"{left} {right}\n" for left, right in self.merges)
        (folder / "merges.txt").write_text("#version: 0.2\n" + merges)
        special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, **special}
        for name, content in (("vocab", self.ids), ("special_tokens_map", special), ("tokenizer_config", config)):
            (folder / f"{name}.json").write_text(json.dumps(content, indent=2 if name != "vocab" else None) + "\n")
