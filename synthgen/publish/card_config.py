"""The configuration as the card may show it: what made the data, without secrets, machines or private paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

from synthgen.config import AspectConfig, Config, GeneratorConfig, ScorerConfig
from synthgen.config.own_files import public_own, split_own
from synthgen.config.public_names import public_location
from synthgen.config.saved import OF_THE_START

_SECRET = re.compile(r"token|secret|password|credential|api_?key|access_?key", re.IGNORECASE)
# Keys whose values are names of environment variables, counts or booleans although they look like secrets.
_NO_SECRET = re.compile(r"_env$|tokens|tokenizer|token_ids")
# What says where and how fast a run went, not what it made.
_LEFT_OUT = frozenset(
    {"publish", "plan", "prove", "cluster", "run.lease_s", "run.grace_s", "run.log_interval_s"}
    | {f"run.{key}" for key in OF_THE_START}
)
_PRIVATE = frozenset({"base_url", "base_urls", "extra_headers", "proxy", "unix_socket", "ca_file"})
_LOCATIONS = frozenset({"id", "path", "tokenizer", "lora", "exclude", "pipeline", "schema"})


def public_config(config: Config) -> dict[str, Any]:
    """Return what differs from the defaults, as plain values: enough to make the same requests again.

    Secrets become `<redacted>`, endpoint addresses are left out, and local paths keep their last part only.
    """
    defaults = asdict(Config())
    values = asdict(config)
    changed = _difference(values, defaults)
    templates = {
        "generators": asdict(GeneratorConfig()),
        "judge.aspect": asdict(AspectConfig()),
        "scorers": asdict(ScorerConfig()),
    }
    for name, template in templates.items():
        _replace_entries(changed, values, name, template)
    cleaned = _clean(changed, "")
    return cleaned if isinstance(cleaned, dict) else {}


def public_locations(paths: Any) -> str:
    """Return what `prompts.path` names, one place or several, as `public_location` does."""
    return ", ".join(public_location(str(path)) for path in (paths if isinstance(paths, list) else [paths]))


def _difference(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict) and default:
            inner = _difference(value, default)
            if inner:
                changed[key] = inner
        elif value != default or key not in defaults:
            changed[key] = value
    return changed


def _replace_entries(
    changed: dict[str, Any], values: Mapping[str, Any], name: str, template: Mapping[str, Any]
) -> None:
    """Put the entries of a by-name section (`generators`) as differences from one entry's own defaults."""
    *parents, last = name.split(".")
    for parent in parents:
        values = values[parent]
        changed = changed.get(parent, {})
    if values[last]:
        changed[last] = {entry: _difference(value, template) for entry, value in values[last].items()}


def _clean(value: Any, key: str) -> Any:
    name = key.rpartition(".")[2]
    if key in _LEFT_OUT or name in _PRIVATE:
        return None
    if isinstance(value, dict):
        items = {entry: _clean(item, f"{key}.{entry}" if key else str(entry)) for entry, item in value.items()}
        return {entry: item for entry, item in items.items() if item is not None and item != {}}
    if isinstance(value, list | tuple):
        return [_clean(item, key) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str) and _SECRET.search(name) and not _NO_SECRET.search(name):
        return "<redacted>"
    if isinstance(value, str) and split_own(value) is not None:
        return f"{'python:' if value.startswith('python:') else ''}{public_own(value)}"
    if isinstance(value, str) and (name in _LOCATIONS or key.rpartition(".")[0].endswith(".adapters")):
        return public_location(value)
    return value
