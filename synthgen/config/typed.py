"""Overrides against the types of the schema: text stays as typed, nothing is removed, no key is made up."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from synthgen.config import Config
from synthgen.errors import ConfigError

_LIKE_NUMBER = re.compile(r"[+-]?[\d.][\w.+:-]*|[+-]?\.?(inf|nan)|true|false|yes|no|on|off|y|n", re.IGNORECASE)
"""What Hydra's grammar or YAML takes for a number, a truth value, a time."""
_OVERRIDE = re.compile(r"(?P<sign>~|\+\+|\+)?(?P<key>[^=@/]+)(?:=(?P<value>.*))?", re.DOTALL)
_TEXT_TOO = ("prompts.path", "prompts.exclude", "prove.side")
"""Keys of any type whose plain values are text."""


def keep_texts(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with quotes around what a field of text would take for something else.

    `publish.tag=1.10` would become 1.1, `publish.language=no` False, a commit such as 7e10 a number.
    """
    return [_keep_text(override) for override in overrides]


def _keep_text(override: str) -> str:
    found = _OVERRIDE.fullmatch(override)
    if found is None or not found["value"] or not _holds_text(found["key"]):
        return override
    return f"{found['sign'] or ''}{found['key']}={_quote(found['value'])}"


def _holds_text(key: str) -> bool:
    """Whether a key's values, or the items of its value, are text."""
    if key in _TEXT_TOO:
        return True
    hint = find_hint(key)
    while typing.get_origin(hint) in (list, dict):
        hint = typing.get_args(hint)[-1]
    return hint is str or (hint is not Any and str in typing.get_args(hint))


def _quote(value: str) -> str:
    """`value` in Hydra's grammar with every plain word quoted that looks like a number or a truth value."""
    start, end = value[:1], value[-1:]
    if (start, end) in (("[", "]"), ("{", "}")):
        items = [_quote_entry(item) if start == "{" else _quote(item.strip()) for item in _split(value[1:-1], ",")]
        return f"{start}{','.join(items)}{end}"
    items = _split(value, ",")
    if len(items) > 1:  # a sweep
        return ",".join(_quote(item.strip()) for item in items)
    return f"'{value}'" if _LIKE_NUMBER.fullmatch(value) else value


def _quote_entry(entry: str) -> str:
    key, *value = _split(entry, ":", 1)
    return f"{key}:{_quote(value[0].strip())}" if value else entry


def _split(text: str, mark: str, most: int = -1) -> list[str]:
    """Split at `mark`, but not within quotes and brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[index - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            depth -= 1
        elif char == mark and depth == 0 and most != 0:
            parts.append(text[start:index])
            start = index + 1
            most -= 1
    return [*parts, text[start:]]


def find_hint(key: str) -> Any:
    """Return the type of a dotted key; None: there is none."""
    hint: Any = Config
    for part in key.split("."):
        if is_dataclass(hint) and isinstance(hint, type):
            hint = typing.get_type_hints(hint).get(part)
        elif typing.get_origin(hint) is dict:
            hint = typing.get_args(hint)[1]
        else:
            return Any if hint is Any else None
    return hint


def refuse_removals(overrides: Sequence[str], list_options: Callable[[str], list[str]]) -> None:
    """Raise ConfigError for an override that removes a part of the configuration, or makes it null.

    Args:
        list_options: from the name of a group to its options.
    """
    for override in overrides:
        found = _OVERRIDE.fullmatch(override)
        if found is None:
            continue
        key, value = found["key"], (found["value"] or "").strip().lower()
        removes = found["sign"] == "~" and _is_fixed(key)
        if not removes and not (value == "null" and (_is_part(key) or list_options(key))):
            continue
        options = list_options(key)
        if options:
            mend = f"choose one with {key}=<name> ({', '.join(options)}), or leave this out"
        else:
            mend = "leave this out to have its default"
        raise ConfigError(f"{override}: {key} is a part of every run and cannot be removed; {mend}")


def _is_part(key: str) -> bool:
    hint = find_hint(key)
    return (is_dataclass(hint) and isinstance(hint, type)) or typing.get_origin(hint) is dict


def _is_fixed(key: str) -> bool:
    """Whether a key is a field of the schema: entries of mappings come and go."""
    parent, _, _ = key.rpartition(".")
    owner = find_hint(parent) if parent else Config
    return is_dataclass(owner) and find_hint(key) is not None


def find_unknown(override: str) -> tuple[str, str, str] | None:
    """Return the same of the key that an override adds; None: the schema has it, or none is added."""
    found = _OVERRIDE.fullmatch(override)
    if found is None or found["sign"] not in ("+", "++") or find_hint(found["key"]) is not None:
        return None
    parts = found["key"].split(".")
    known = next(count for count in reversed(range(len(parts))) if not count or find_hint(".".join(parts[:count])))
    owner = find_hint(".".join(parts[:known])) if known else Config
    return ".".join(parts[: known + 1]), parts[known], getattr(owner, "__name__", "")


def iterate_unknown(composed: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, its last part, class without such a field) of what nothing reads in a composed configuration.

    Hydra's `+` adds any key anywhere, and a typing error there would do nothing in silence.
    """
    yield from _iterate_unknown(composed, Config, "")


def _iterate_unknown(value: Any, hint: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    if not isinstance(value, Mapping):
        return
    if is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        fields = {field.name for field in dataclasses.fields(hint)}
        for key, inner in value.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            if key not in fields:
                yield name, str(key), hint.__name__
            else:
                yield from _iterate_unknown(inner, hints[str(key)], name)
    elif typing.get_origin(hint) is dict:
        for key, inner in value.items():
            yield from _iterate_unknown(inner, typing.get_args(hint)[1], f"{prefix}.{key}")
