"""A labelled preference file in, its pairs out, whichever of the usual field names it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts.completions import LISTS, read_completions
from synthgen.prompts.files import FileSource
from synthgen.prompts.locate import locate_sources
from synthgen.prompts.messages import read_messages
from synthgen.prompts.rows import Row
from synthgen.prompts.unusable import UnusableRowError, check_text
from synthgen.records import Message


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two texts for one prompt, and which of them is better.

    Attributes:
        id: unique in the set.
        subset: what the results are grouped by.
        messages: the prompt, a conversation that ends with the user's turn.
        texts: A and B, in the file's order (chosen before rejected).
        better: 0 if A is better, 1 if B is.
    """

    id: str
    subset: str
    messages: tuple[Message, ...]
    texts: tuple[str, str]
    better: int


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """The pairs of a file, in its order. `unreadable` counts the rows that gave no pair, by reason."""

    pairs: tuple[LabelledPair, ...]
    unreadable: Mapping[str, int]


def read_labelled(
    path: str, *, key: str = "path", config: str | None = None, split: str = "train", revision: str | None = None
) -> LabelledSet:
    """Return the labelled pairs of a JSONL, JSON, CSV or Parquet file, a directory of them, or a Hub data set.

    Fields, by the first row:
    - `prompt` (or `instruction`, `question`, `messages`), `chosen`, `rejected`: texts, or lists of messages whose last
      turn is the answer and which may hold the prompt, as in RewardBench (arXiv 2403.13787) and UltraFeedback;
    - `input`, `output_1`, `output_2`, `label` 1 or 2: LLMBar (arXiv 2310.07641);
    - `question`, `response_A`, `response_B`, `label` `A>B` or `B>A`: JudgeBench (arXiv 2410.12784);
    - completions with a number each, in any form that `generators.<name>.path` takes (`synthgen.prompts.completions`):
      the best and the worst of a row are a pair.
    `id` (or `pair_id`) and `subset` (or, in JudgeBench, `source`) are taken where they are there; else the row number
    in its file is the id, and of several files the file's name the subset. Where ids repeat, the subset is put before
    them.

    Args:
        key: the configuration key that holds the path, for messages.
        config, split, revision: of a Hub data set.

    Raises:
        ConfigError: the path cannot be read, has none of these fields, or no row of it gives a pair.
    """
    sources = locate_sources(PromptsConfig(path=path, config=config, split=split, revision=revision), key)
    pairs: list[LabelledPair] = []
    unreadable: Counter[str] = Counter()
    read: Callable[[Mapping[str, Any]], _Content] | None = None
    for source in sources:
        group = source.name.split(".")[0] if len(sources) > 1 and isinstance(source, FileSource) else "all"
        for number, row in enumerate(source.rows()):
            if not isinstance(row, Row):
                unreadable[row.reason] += 1
                continue
            read = read or _choose_reader(row.values, path, key)
            try:
                messages, texts, better = read(row.values)
                for text in (*texts, *(message["content"] for message in messages)):
                    check_text(text)
            except UnusableRowError as error:
                unreadable[error.reason] += 1
                continue
            identity = _first(row.values, ("id", "pair_id"), number)
            subset = _first(row.values, ("subset", "source"), group)
            pairs.append(LabelledPair(str(identity), str(subset), tuple(messages), texts, better))
    if not pairs:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(unreadable.items())) or "it is empty"
        raise ConfigError(f"{key}={path} holds no labelled pair: {reasons}")
    return LabelledSet(tuple(_make_ids_unique(pairs)), dict(sorted(unreadable.items())))


_Content = tuple[list[Message], tuple[str, str], int]

_PROMPT_FIELDS = ("prompt", "instruction", "question", "input", "messages")


def _choose_reader(row: Mapping[str, Any], path: str, key: str) -> Callable[[Mapping[str, Any]], _Content]:
    for fields, read in _READERS.items():
        if all(field in row for field in fields):
            return read
    if any(row.get(name) for name in LISTS):
        return _read_scored
    wanted = "; or ".join(", ".join(fields) for fields in _READERS)
    raise ConfigError(f"{key}={path} has the fields {', '.join(row)}; it needs {wanted}")


def _read_chosen(row: Mapping[str, Any]) -> _Content:
    prompts, texts = zip(*(_read_side(row[name]) for name in ("chosen", "rejected")), strict=True)
    prompt = next((row[name] for name in _PROMPT_FIELDS if row.get(name)), None)
    if prompt is not None:
        messages, _ = read_messages(prompt)
    elif prompts[0] is not None and prompts[0] == prompts[1]:
        messages = prompts[0]
    else:
        raise UnusableRowError("no_prompt", "the row has no prompt, and its sides do not share one")
    return messages, (texts[0], texts[1]), 0


def _read_side(value: Any) -> tuple[list[Message] | None, str]:
    """Return the conversation before the answer (None if there is none), and the answer."""
    if isinstance(value, str):
        return None, value
    if not isinstance(value, list) or not value or not isinstance(value[-1], Mapping):
        raise UnusableRowError("not_a_text", "chosen and rejected must be texts or lists of messages")
    answer = value[-1].get("content", value[-1].get("value"))
    if not isinstance(answer, str):
        raise UnusableRowError("not_a_text", "the last turn of chosen or rejected has no text")
    return (read_messages(value[:-1])[0] if len(value) > 1 else None), answer


def _read_scored(row: Mapping[str, Any]) -> _Content:
    prompt = next((row[name] for name in _PROMPT_FIELDS if row.get(name)), None)
    if prompt is None:
        raise UnusableRowError("no_prompt", f"the row has no prompt; looked for {', '.join(_PROMPT_FIELDS)}")
    scored = [(one.score, one.text) for one in read_completions(row) if one.score is not None]
    if len(scored) < 2:
        raise UnusableRowError("no_label", "fewer than two completions of the row have a number")
    best, worst = max(scored, key=lambda one: one[0]), min(scored, key=lambda one: one[0])
    if best[0] == worst[0]:
        raise UnusableRowError("no_difference", "all completions of the row have the same number")
    return read_messages(prompt)[0], (best[1], worst[1]), 0


def _read_llmbar(row: Mapping[str, Any]) -> _Content:
    return _read_sides(row, "input", ("output_1", "output_2"), {"1": 0, "2": 1})


def _read_judgebench(row: Mapping[str, Any]) -> _Content:
    return _read_sides(row, "question", ("response_A", "response_B"), {"A>B": 0, "B>A": 1})


def _read_sides(row: Mapping[str, Any], prompt: str, sides: Sequence[str], labels: Mapping[str, int]) -> _Content:
    better = labels.get(str(row["label"]).strip())
    if better is None:
        raise UnusableRowError("unknown_label", f"label {row['label']!r} is none of {', '.join(labels)}")
    first, second = (row[side] for side in sides)
    if not isinstance(first, str) or not isinstance(second, str):
        raise UnusableRowError("not_a_text", f"{sides[0]} and {sides[1]} must be texts")
    return read_messages(row[prompt])[0], (first, second), better


_READERS: dict[tuple[str, ...], Callable[[Mapping[str, Any]], _Content]] = {
    ("chosen", "rejected"): _read_chosen,
    ("input", "output_1", "output_2", "label"): _read_llmbar,
    ("question", "response_A", "response_B", "label"): _read_judgebench,
}


def _first(row: Mapping[str, Any], names: Sequence[str], default: Any) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), default)


def _make_ids_unique(pairs: list[LabelledPair]) -> list[LabelledPair]:
    if len({pair.id for pair in pairs}) < len(pairs):
        pairs = [replace(pair, id=f"{pair.subset}/{pair.id}") for pair in pairs]
    seen: Counter[str] = Counter()
    unique = []
    for pair in pairs:
        seen[pair.id] += 1
        unique.append(pair if seen[pair.id] == 1 else replace(pair, id=f"{pair.id}#{seen[pair.id]}"))
    return unique
