"""From the columns of a row to a conversation: which column holds the prompt, and in which of the usual forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.config import PromptReference, PromptsConfig
from synthgen.prompts.json_text import parse_messages
from synthgen.prompts.messages import UnusableRowError, check_text, is_utf8, list_texts, list_user_texts, read_messages
from synthgen.records import Message, canonical_json

KNOWN_COLUMNS = (
    "prompt",
    "messages",
    "conversations",
    "conversation",
    "instruction",
    "question",
    "turns",
    "problem",
    "query",
    "text",
    "input",
)
"""Where the prompt is looked for when `prompts.column` is null; the first that a file has is taken."""


NAMED_KEYS = ("column", "system_column", "input_column", "reference_column")
"""Keys of `prompts` that name a column."""

RULES = 1
"""How the defaults read a source. 0: as the first versions did, which run directories from then on keep to.

1: no answer at the end of a conversation is a reference; message lists written as text are read as messages; Alpaca's
`input` stands below its `instruction`; a clone of a Hub data set is read by its split; files in natural order; a prompt
that speaks of a picture, in a row that has one, is refused.
"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row's prompt, system message, further input and reference are (None: nowhere), and how to read them.

    A name that the row does not have as it stands is read as a path: `instances.0.input`.

    Attributes:
        as_text: the prompt column holds message lists written as text.
        last_turn: an answer that ends the conversation is the reference.
        text_only: a prompt that speaks of a picture is refused where the row has one.
    """

    prompt: str
    system: str | None
    input: str | None
    reference: str | None
    as_text: bool = False
    last_turn: bool = False
    text_only: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says: a conversation that ends with the user's turn, a reference answer, all else as a JSON object.

    `cut`: an answer ended the conversation, and is not the reference.
    """

    messages: list[Message]
    reference: str | None
    metadata: str
    cut: bool = False


def choose_columns(config: PromptsConfig, rows: Iterable[Mapping[str, Any]], rules: int = RULES) -> Columns | None:
    """Return the columns to read from the source that has the rows `rows`; None: none of them has a known name.

    A known name that holds a value somewhere goes before one that does not.
    """
    column = config.column
    answered = False
    if column is None:
        filled: dict[str, bool] = {}
        for row in rows:
            answered = answered or _ends_a_conversation(row.get("chosen"))
            for name, value in row.items():
                if name in KNOWN_COLUMNS:
                    filled[name] = filled.get(name, False) or value not in (None, "", [])
        known = [name for name in KNOWN_COLUMNS if name in filled]
        column = next((name for name in known if filled[name]), known[0] if known else None)
    if column is None and answered:
        column = "chosen"  # preference data whose prompt is what stands before the answer
    if column is None:
        return None
    more = config.input_column or None  # empty: none, even in Alpaca's form
    if config.input_column is None and column == "instruction" and rules >= 1:
        more = "input"
    last_turn = config.reference is PromptReference.last_turn or (config.reference is None and rules < 1)
    return Columns(
        column, config.system_column, more, config.reference_column, last_turn=last_turn, text_only=rules >= 1
    )


def _ends_a_conversation(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(turn, Mapping) for turn in value)


def read_conversation(row: Mapping[str, Any], columns: Columns) -> Conversation:
    """Return the conversation of a row.

    An answer that ends the conversation is cut off. It becomes the reference where `columns.last_turn` says so and no
    reference column is set. It stays in the metadata, which is what the data set carries.

    Raises:
        UnusableRowError: the row holds no prompt that can be used.
    """
    value = read_prompt(row, columns)
    messages, answer = read_messages(value)
    if columns.text_only:
        _refuse_media(row, messages)
    extra = _read_input(get_column(row, columns.input)) if columns.input else ""
    if extra:
        messages[-1] = Message(role="user", content=f"{messages[-1]['content']}\n\n{extra}")
    system = get_column(row, columns.system) if columns.system else None
    if isinstance(system, str) and system.strip() and all(m["role"] != "system" for m in messages):
        messages.insert(0, Message(role="system", content=system))
    said = answer if columns.last_turn else None
    reference = _read_reference(get_column(row, columns.reference)) if columns.reference else said
    for text in [*(m["content"] for m in messages), reference or ""]:
        check_text(text)
    used = {columns.prompt, columns.system, columns.input}
    rest = {name: other for name, other in row.items() if name not in used}
    if answer is not None:
        rest.setdefault("reference" if columns.last_turn else "last_turn", answer)
    if isinstance(value, list) and len(value) > 1 and list_texts(value):
        rest[columns.prompt] = value  # only the first turn was taken
    return Conversation(messages, reference, _dump_metadata(rest), answer is not None and not columns.last_turn)


def read_user_texts(row: Mapping[str, Any], columns: Columns) -> list[str]:
    """Return what the user says in a row, by turn: of a list of user turns all of them.

    Raises:
        UnusableRowError: nothing.
    """
    texts = list_user_texts(read_prompt(row, columns))
    if not texts:
        raise UnusableRowError("empty_prompt", "no user turn holds text")
    extra = _read_input(get_column(row, columns.input)) if columns.input else ""
    return [*texts[:-1], f"{texts[-1]}\n\n{extra}" if extra else texts[-1]]


def read_prompt(row: Mapping[str, Any], columns: Columns) -> Any:
    """Return the value of a row's prompt column. Raises UnusableRowError where the row has none."""
    if not has_column(row, columns.prompt):
        others = [name for name in KNOWN_COLUMNS if name in row]
        hint = f" (it has {others[0]})" if others else ""
        raise UnusableRowError("missing_column", f"no column {columns.prompt}{hint}")
    value = get_column(row, columns.prompt)
    return parse_messages(value) if columns.as_text else value


def has_column(row: Mapping[str, Any], name: str) -> bool:
    """Return whether the row has a column, or a path, of that name."""
    return name in row or ("." in name and _walk(row, name) is not None)


def get_column(row: Mapping[str, Any], name: str) -> Any:
    """Return what a row has under a column's name or a path; None: nothing."""
    return row[name] if name in row else _walk(row, name)


def _read_input(value: Any) -> str:
    """Further input as text, empty where there is none: null, white space, Self-Instruct's `<noinput>`."""
    if isinstance(value, bool | int | float):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise UnusableRowError("not_a_prompt", f"the input is a {type(value).__name__}, not text")
    return value if value and value.strip() and value.strip() != "<noinput>" else ""


_MEDIA = {"<image>": ("image", "images"), "<video>": ("video", "videos"), "<audio>": ("audio", "audios")}
"""What stands for a picture in a text (LLaVA, LLaMA-Factory, TRL), and the columns that hold it."""


def _refuse_media(row: Mapping[str, Any], messages: Sequence[Message]) -> None:
    if not any(mark in turn["content"] for turn in messages for mark in _MEDIA):
        return
    for mark, names in _MEDIA.items():
        name = next((name for name in names if row.get(name)), None)
        if name is not None and any(mark in turn["content"] for turn in messages):
            raise UnusableRowError("not_text", f"the prompt speaks of what is in the column {name}, which is not text")


def _walk(value: Any, path: str) -> Any:
    """What `path` leads to in nested objects and lists, or None."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _read_reference(value: Any) -> str | None:
    """A reference answer as text; of a list of answers, one per turn, the first."""
    texts = list_texts(value)
    if texts:
        return texts[0]
    return value if value is None or isinstance(value, str) else canonical_json(value)


def _dump_metadata(values: Mapping[str, Any]) -> str:
    """`values` as a JSON object. Binary values (pictures, audio) and numbers that JSON lacks become null."""
    try:
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = canonical_json(_to_json(values))
    except RecursionError as error:
        raise UnusableRowError("nested_too_deep", "the row is nested too deep") from error
    return text if is_utf8(text) else json.dumps(json.loads(text), sort_keys=True)


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(other) for key, other in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(other) for other in value]
    if isinstance(value, bytes) or (isinstance(value, float) and not abs(value) < float("inf")):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
