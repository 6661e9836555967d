"""Settings as Python has them, in Hydra's grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np

from synthgen.config.saved import escape_interpolations
from synthgen.config.typed import find_hint
from synthgen.errors import ConfigError, one_line

Settings = Mapping[str, Any] | Sequence[str]
"""`{"experiment": "echo", "run": {"dir": "runs/a"}, "generators.main.n": 4}`, or overrides as the command line has."""

_WORD = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
"""A name, as people type it without quotes."""
_NO_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"})
"""What would be read as something else than text."""
_PLAIN_KEY = r"[A-Za-z_][A-Za-z0-9_-]*|[0-9]+"


def to_overrides(settings: Settings) -> list[str]:
    """Return `settings` as overrides. Text stays text, whatever it holds.

    Raises:
        TypeError: settings are neither, such as a single text, or a value has no form in a configuration.
    """
    if isinstance(settings, Mapping):
        return [f"{key}={_write(value, key)}" for key, value in _flatten(settings, "")]
    is_list = isinstance(settings, Sequence) and not isinstance(settings, str)
    if is_list and all(isinstance(override, str) for override in settings):
        return list(settings)
    raise TypeError(f"settings={settings!r}: give a list of overrides or a mapping")


def _flatten(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if _is_free(name):
            yield from _add(f"++{name.lstrip('+')}", value)
        elif isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _add(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Add what lies in a mapping of any keys. In Hydra's `{key: …}` a key such as `50` or `null` would be no text."""
    if not isinstance(value, Mapping) or not value:
        yield name, value
        return
    odd = {key: item for key, item in value.items() if not re.fullmatch(_PLAIN_KEY, str(key))}
    for key, item in value.items():
        if key not in odd:
            yield from _add(f"{name}.{key}", item)
    if odd:
        yield name, odd


def _is_free(key: str) -> bool:
    """Return whether `key` is, or lies in, a mapping of the schema that may hold any keys: `cluster.runtime_env`."""
    parts = key.lstrip("+").split(".")
    hints = (find_hint(".".join(parts[:count])) for count in range(1, len(parts) + 1))
    return any(get_origin(hint) is dict and not is_dataclass(get_args(hint)[1]) for hint in hints)


def _write(value: Any, key: str) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value.lower() not in _NO_TEXT else _quote(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_escape(str(name))}:{_write(item, key)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_write(item, key) for item in value) + "]"
    if hasattr(value, "__fspath__"):
        return _quote(str(value))
    raise TypeError(f"{key}={value!r} is no text, number, list or mapping")


def _escape(name: str) -> str:
    return re.sub(r"[\\()\[\]{}:=, \t]", r"\\\g<0>", name)


def _quote(text: str) -> str:
    """Return `text` between quotes; in them a backslash counts before a quote only, and `${` would be looked up."""
    text = escape_interpolations(text)
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    text = re.sub(r"\\+\Z", lambda match: match[0] * 2, text)
    return f"'{text}'"


def _put_here(value: Any, here: str) -> Any:
    """Return a value with the file's directory in the place of `${here}`."""
    if isinstance(value, str):
        return value.replace("${here}", here)
    if isinstance(value, list):
        return [_put_here(item, here) for item in value]
    return {key: _put_here(item, here) for key, item in value.items()} if isinstance(value, dict) else value


def read_settings(path: Path) -> tuple[list[str], str | None]:
    """Return what a YAML file of settings holds, as overrides, and its `config_dir` (what `--config-dir` gives) if any.

    Keys are those of `config.yaml`, and groups (`judge: full`) too.

    `${here}` in a text is the file's directory: paths beside it work wherever the command is started.

    Raises:
        ConfigError: it cannot be read, or is no mapping.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config={path} cannot be read: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"--config={path} holds no mapping; write keys and values, such as 'experiment: echo'")
    try:
        here = str(path.resolve().parent)
        values = {str(key): _put_here(value, here) for key, value in found.items()}
        config_dir = values.pop("config_dir", None)
        return to_overrides(values), None if config_dir is None else str(config_dir)
    except TypeError as error:
        raise ConfigError(f"--config={path}: {one_line(error)}") from error
