"""A server's list of models: any bytes in, the entries that have a name out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry. context_length: tokens, None: it does not say. is_vllm: whether the server says that it is vLLM."""

    name: str
    context_length: int | None
    is_vllm: bool


def read_listing(body: bytes) -> list[Listed]:
    """Return the models that a server lists: `{"data": […]}`, a bare list, JSON lines or names; empty: none is told."""
    text = body.decode("utf-8", "replace")
    whole = _parse(text)
    values = [whole] if whole is not None else [_parse(line) for line in text.splitlines()]
    entries = [entry for value in values for entry in _entries(value)]
    return [found for entry in entries if (found := _read_entry(entry)) is not None]


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _entries(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        inner = next((value[key] for key in ("data", "models") if isinstance(value.get(key), list)), None)
        if inner is None:
            yield value
            return
        value = inner
    if isinstance(value, list):
        yield from value


def _read_entry(entry: Any) -> Listed | None:
    if isinstance(entry, str):
        return Listed(entry, None, False)
    if not isinstance(entry, dict):
        return None
    name = next((entry[key] for key in ("id", "name", "model") if isinstance(entry.get(key), str)), None)
    if name is None:
        return None
    lengths = (entry.get(key) for key in ("max_model_len", "context_length", "context_window", "max_context_length"))
    length = next((n for n in lengths if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)
    return Listed(name, length, entry.get("owned_by") == "vllm")
