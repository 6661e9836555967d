"""The work that is measured: the same prompts, sampling and models for every contender."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from synthgen.config import Config
from synthgen.config.compose import compose_config
from synthgen.models.tiny_tokenizer import read_paragraphs

MAX_TOKENS = 512
"""The built-in models end their completions by themselves: about 40 tokens in the mean, with a tail to this limit."""


def write_prompts(path: Path, count: int, first: int = 0) -> Path:
    """Write `count` distinct prompts as JSON lines: 8 to 60 words, numbered from `first`: all begin differently."""
    rng = random.Random(first)
    words = read_words()
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, first + count):
            text = " ".join(rng.choices(words, k=rng.randint(8, 60)))
            file.write(json.dumps({"prompt": f"{number}. {text.capitalize()}?"}) + "\n")
    return path


def make_config(directory: Path, prompts: int, *overrides: str) -> Config:
    """Return the configuration of a run over `prompts` prompts in `directory`, on the tiny model, without canaries."""
    source = directory.parent / f"prompts-{prompts}.jsonl"
    if not source.exists():
        write_prompts(source, prompts)
    return compose_config(
        [
            "experiment=tiny",
            f"run.dir={directory}",
            f"prompts.path={source}",
            "run.unit_size=64",
            f"generators.main.sampling.max_tokens={MAX_TOKENS}",
            "judge.canary_fraction=0",
            *overrides,
        ]
    )


@cache
def read_words() -> list[str]:
    """Return the words of some English prose, in order."""
    return [word for paragraph in read_paragraphs() for word in paragraph.split() if word.isalpha()]
