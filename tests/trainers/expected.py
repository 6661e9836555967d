"""What every loader must give back, read from the run's own rows; and the little that the checks share.

Each `check_<trainer>.py` is started by itself, with the trainer's packages on its path, and calls `main`.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Rows = list[dict[str, Any]]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template that changes no text: what a loader loses or adds is the loader's."""
GENERATION = "<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Work:
    """Where a check finds its data set and a tokenizer, and where it may write."""

    dataset: Path
    tokenizer: Path
    scratch: Path

    def rows(self, config: str, split: str = "train") -> Rows:
        """The rows of a config's split, as the files hold them."""
        directory = "data" if config == "default" else config
        files = sorted((self.dataset / directory).glob(f"{split}-*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def files(self, config: str, split: str = "train") -> list[str]:
        """The files of a config's split."""
        return [str(file) for file in sorted((self.dataset / config).glob(f"{split}-*.parquet"))]

    def load_tokenizer(self) -> Any:
        """The tiny model's tokenizer with the template above."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.tokenizer)


@dataclass(frozen=True, slots=True)
class Result:
    """What one loader made of one config.

    Attributes:
        task: DPO, KTO, SFT, …
        config: of the data set.
        loader: the trainer's function or class that read it.
        rows: rows in the train split.
        whole: rows that came out as they went in.
        note: why the others did not.
    """

    task: str
    config: str
    loader: str
    rows: int
    whole: int
    note: str = ""


def compare(task: str, config: str, loader: str, expected: list[Any], found: list[Any], note: str = "") -> Result:
    """Return how many of `expected` a loader gave, in any order; what it gave beside them counts against it."""
    left = [json.dumps(item, sort_keys=True) for item in expected]
    extra = 0
    for item in found:
        key = json.dumps(item, sort_keys=True)
        if key in left:
            left.remove(key)
        else:
            extra += 1
            if os.environ.get("TRAINERS_DEBUG"):
                print("not expected:", key[:600], file=sys.stderr)
    if os.environ.get("TRAINERS_DEBUG"):
        for key in left:
            print("missing:", key[:600], file=sys.stderr)
    whole = len(expected) - len(left)
    if extra > len(left):
        whole, note = 0, f"{extra} rows that are not in the data set; {note}"
    return Result(task, config, loader, len(expected), whole, note)


def render(messages: list[Mapping[str, str]], *, generation: bool = False) -> str:
    """A conversation under the template above."""
    text = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)
    return text + (GENERATION if generation else "")


def pair_texts(rows: Rows) -> list[Any]:
    """Prompt and both completions of each pair, under the template above."""
    return [
        [render(row["prompt"], generation=True), *(f"{row[side][0]['content']}<|im_end|>\n" for side in SIDES)]
        for row in rows
    ]


SIDES = ("chosen", "rejected")


def stub(*names: str) -> None:
    """Put an empty module in the place of each absent one that a loader imports and does not use for texts."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            module = types.ModuleType(name)
            module.__getattr__ = _make_empty  # type: ignore[method-assign]
            module.__path__ = []
            module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
            sys.modules[name] = module


def _make_empty(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def main(check: Callable[[Work], list[Result]]) -> None:
    """Run a check on what the command line names; its results are the last line of the output."""
    parser = argparse.ArgumentParser()
    for name in ("dataset", "tokenizer", "scratch"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    results = check(Work(options.dataset, options.tokenizer, options.scratch))
    print(json.dumps([asdict(result) for result in results]), flush=True)
