"""From the columns of a row to a conversation: which column holds the prompt, and in which of the usual forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config import PromptReference, PromptsConfig, PromptTurns
from synthgen.prompts.json_text import parse_messages
from synthgen.prompts.messages import list_texts, list_user_texts, read_messages
from synthgen.prompts.tools import read_tools
from synthgen.prompts.unusable import UnusableRowError, check_text, is_utf8
from synthgen.records import Message, Tool, canonical_json

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


TOOLS_COLUMN = "tools"
"""Where tools are looked for when `prompts.tools_column` is null."""

NAMED_KEYS = ("column", "system_column", "input_column", "reference_column", "tools_column")
"""Keys of `prompts` that name a column."""

RULES = 2
"""How the defaults read a source. 0: as the first versions did, which run directories from then on keep to.

1: no answer at the end of a conversation is a reference; message lists written as text are read as messages; Alpaca's
`input` stands below its `instruction`; a clone of a Hub data set is read by its split; files in natural order; a prompt
that speaks of a picture, in a row that has one, is refused. 2: tools, what turns call, and turns of tools are read.
"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row's prompt, system message, further input and reference are (None: nowhere), and how to read them.

    A name that the row does not have as it stands is read as a path: `instances.0.input`.

    Attributes:
        as_text: the prompt column holds message lists written as text.
        last_turn: an answer that ends the conversation is the reference.
        text_only: a prompt that speaks of a picture is refused where the row has one.
        tools: where the tools are. tools_named: whether the configuration says so.
        calls: turns of tools are known, and what turns call is read.
        turns: what becomes of several user turns.
    """

    prompt: str
    system: str | None
    input: str | None
    reference: str | None
    as_text: bool = False
    last_turn: bool = False
    text_only: bool = True
    tools: str | None = None
    tools_named: bool = False
    calls: bool = True
    turns: PromptTurns = PromptTurns.first


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says: a conversation that ends with the user's turn, or a tool's, a reference answer, all else as a
    JSON object.

    `cut`: an answer ended the conversation, and is not the reference. `references`: where the reference is a list with
    one for each user turn, that list.
    """

    messages: list[Message]
    reference: str | None
    metadata: str
    cut: bool = False
    tools: tuple[Tool, ...] = ()
    references: tuple[str, ...] = ()


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
    tools = TOOLS_COLUMN if config.tools_column is None and rules >= 2 else config.tools_column
    return Columns(
        column,
        config.system_column,
        more,
        config.reference_column,
        last_turn=last_turn,
        text_only=rules >= 1,
        tools=tools or None,  # empty: none
        tools_named=bool(config.tools_column),
        calls=rules >= 2,
        turns=config.turns or PromptTurns.first,
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
    messages, answer = read_messages(value, calls=columns.calls, whole=columns.turns is not PromptTurns.first)
    tools = read_tools(get_column(row, columns.tools), named=columns.tools_named) if columns.tools else None
    if columns.text_only:
        _refuse_media(row, messages)
    extra = _read_input(get_column(row, columns.input)) if columns.input else ""
    if extra:
        last = next(turn for turn in reversed(messages) if turn["role"] == "user" or turn is messages[0])
        last["content"] += f"\n\n{extra}"
    system = get_column(row, columns.system) if columns.system else None
    if isinstance(system, str) and system.strip() and all(m["role"] != "system" for m in messages):
        messages.insert(0, Message(role="system", content=system))
    said = answer if columns.last_turn else None
    reference = _read_reference(get_column(row, columns.reference)) if columns.reference else said
    references = _list_references(get_column(row, columns.reference), messages, columns) if columns.reference else ()
    reference = references[-1] if references else reference
    spoken = [*(m["content"] for m in messages), *(m.get("name", "") for m in messages)]
    for text in [*spoken, reference or "", *references]:
        check_text(text)
    used = {columns.prompt, columns.system, columns.input, columns.tools if tools else None}
    rest = {name: other for name, other in row.items() if name not in used}
    if answer is not None:
        rest.setdefault("reference" if columns.last_turn else "last_turn", answer)
    if columns.turns is PromptTurns.first and isinstance(value, list) and len(value) > 1 and list_texts(value):
        rest[columns.prompt] = value  # only the first turn was taken
    cut = answer is not None and not columns.last_turn
    return Conversation(messages, reference, _dump_metadata(rest), cut, tools or (), references)


def ask_each_turn(conversation: Conversation, *, last_turn: bool) -> Iterator[Conversation]:
    """Yield a conversation for each user turn, with what stands before it, in order; the whole one last.

    Args:
        last_turn: what the source's assistant answers to a turn is its reference.
    """
    messages = conversation.messages
    asked = [place for place, turn in enumerate(messages) if turn["role"] == "user"]
    for number, place in enumerate(asked):
        following = messages[place + 1] if place + 1 < len(messages) else None
        if following is None or following["role"] == "tool":
            continue
        answered = last_turn and following["role"] == "assistant" and not following.get("tool_calls")
        reference = conversation.references[number] if conversation.references else None
        if reference is None and answered and following["content"].strip():
            reference = following["content"]
        yield replace(conversation, messages=messages[: place + 1], reference=reference, cut=False)
    yield conversation


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
    return parse_messages(value, calls=columns.calls) if columns.as_text else value


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


def _list_references(value: Any, messages: Sequence[Message], columns: Columns) -> tuple[str, ...]:
    """The texts of a list that has one reference for each user turn; empty: it is none."""
    texts = list_texts(value) if columns.turns is not PromptTurns.first and isinstance(value, list) else None
    return tuple(texts) if texts and len(texts) == sum(turn["role"] == "user" for turn in messages) else ()


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
