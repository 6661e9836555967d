"""Texts, counts and thoughts of an answer's JSON, wherever and in whatever form a server has them."""

from __future__ import annotations

import re
from typing import Any

from synthgen.records import WrittenCall, canonical_json

_MOST_TOKENS = 2**31 - 1


def read_text(content: Any) -> str | None:
    """Return a content's text: a string, or the text parts of a list; None: it holds none."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
            inner = part.get("text")
            inner = inner.get("value") if isinstance(inner, dict) else inner
            texts.append(inner if isinstance(inner, str) else "")
    return "".join(texts) if texts else None


def read_calls(message: dict[str, Any]) -> tuple[WrittenCall, ...]:
    """Return the calls of a message, in order, the arguments as text; what names no tool is none."""
    found = message.get("tool_calls")
    items = found if isinstance(found, list) else []
    if not items and isinstance(message.get("function_call"), dict):  # before there was more than one
        items = [{"function": message["function_call"]}]
    calls = []
    for item in items:
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            continue
        arguments, identity = function.get("arguments"), item.get("id")
        text = arguments if isinstance(arguments, str) else canonical_json(arguments or {})
        calls.append(WrittenCall(function["name"], text, identity if isinstance(identity, str) else None))
    return tuple(calls)


def read_count(value: Any) -> int | None:
    """Return a count, None for what is none (a bool, a negative number, one that no column holds)."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,10}(\.\d{1,6})?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= _MOST_TOKENS:  # NaN too
        return None
    return int(value)


def read_thought(message: dict[str, Any]) -> str | None:
    """Return what was thought, wherever a server puts it; None: nothing is told apart from the answer."""
    for key in ("reasoning_content", "reasoning", "thinking"):
        if found := read_text(message.get(key)):
            return found
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    thoughts = [part for part in parts if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")]
    texts = [read_text(part.get(key)) for part in thoughts for key in ("thinking", "reasoning", "text")]
    return "".join(text for text in texts if text) if thoughts else None


def count_thought(usage: Any) -> int | None:
    """Return how many of the output tokens a `usage` calls reasoning; None: it does not say."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    found = read_count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    return read_count(usage.get("reasoning_tokens")) if found is None else found


def measure_thought(reasoning: str | None, text: str, output_tokens: int, counted: int | None) -> int | None:
    """Return the tokens of a thought: as counted, or by its share of the characters where the server does not count."""
    if reasoning is None:
        return None
    if counted is not None:
        return min(counted, output_tokens)
    return round(output_tokens * len(reasoning) / (len(reasoning) + len(text))) if reasoning else output_tokens
