"""Message lists that were written into a column of text: as JSON, or as Python and numpy show them (`to_csv`)."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from synthgen.prompts.messages import CONTENT_KEYS, ROLE_KEYS
from synthgen.prompts.tools import CALL_KEYS

# numpy writes no comma between the items of an array. A text, quoted either way, is passed over.
_GAP = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|\}\s*\{""", re.DOTALL)


def parse_messages(text: Any, *, calls: bool = True) -> list[Any] | None:
    """Return the message list that `text` spells, empty for an empty one, or None where it is something else.

    Args:
        calls: whether a turn that calls tools needs no text.
    """
    if not isinstance(text, str) or text.lstrip()[:1] != "[":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _parse_python(text)
    if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
        value = _parse_each(value)  # the turns were of the type `arrow.json`
    return value if value == [] or _is_messages(value, calls=calls) else None


def _parse_python(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # an escape that Python does not know
            return ast.literal_eval(_GAP.sub(lambda match: match[1] or "}, {", text.strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _parse_each(texts: list[str]) -> list[Any] | None:
    """The JSON values in some texts; numpy leaves no comma between texts either, which makes one of them."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    for text in texts:
        start = 0
        while start < len(text):
            try:
                value, start = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                return None
            found.append(value)
    return found


def _is_messages(value: Any, *, calls: bool) -> bool:
    """Whether each item has a speaker and a text: `[{"name": "a"}]` in a prompt is part of a question."""
    said = (*CONTENT_KEYS, *CALL_KEYS) if calls else CONTENT_KEYS
    return isinstance(value, list) and all(
        isinstance(turn, Mapping)
        and any(isinstance(turn.get(key), str) for key in ROLE_KEYS)
        and any(key in turn for key in said)
        for turn in value
    )
