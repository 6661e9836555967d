"""A scorer's configuration in, a check that can be sent to a worker out; what is wrong with it is said here."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from synthgen.config import ScorerConfig
from synthgen.config.own_files import split_own
from synthgen.errors import ConfigError
from synthgen.verifiers.kinds import KINDS, OWN, Kind
from synthgen.verifiers.own import PREFIX, split_kind

_COMMON = ("type", "kind", "reference", "threshold", "timeout_s")


@dataclass(frozen=True, slots=True)
class Check:
    """A verifier ready to be sent to a worker: plain values.

    Attributes:
        kind: what it is like. settings: of it, as JSON values; with the kind's version they say what it returns.
    """

    kind: Kind
    settings: dict[str, Any]

    def dump(self) -> str:
        """Return what `synthgen.verifiers.worker` loads."""
        return json.dumps({"module": self.kind.module, "settings": self.settings}, sort_keys=True)


def make_check(key: str, config: ScorerConfig) -> Check:
    """Return the check of a scorer; `key`: its dotted key, for messages.

    Raises:
        ConfigError: it cannot work.
    """
    if not config.kind:
        raise ConfigError(f"{key}.kind is not set; give one of {', '.join(KINDS)}, or <file.py>:<function>")
    if config.kind.startswith(PREFIX) or split_own(config.kind) is not None:
        kind, settings = OWN, _read_own(key, config)
    else:
        kind = KINDS.load(config.kind, f"{key}.kind")
        settings = {name: getattr(config, name) for name in kind.settings}
    if isinstance(settings.get("schema"), str):
        settings["schema"] = _read_schema(key, settings["schema"])
    defaults = ScorerConfig()
    for field in fields(ScorerConfig):
        unread = field.name not in (*_COMMON, *kind.settings)
        if unread and getattr(config, field.name) != getattr(defaults, field.name):
            raise ConfigError(
                f"{key}.{field.name}={getattr(config, field.name)} has no effect on kind={config.kind}; leave it out"
            )
    for problem in kind.find_problems(settings):
        raise ConfigError(f"{key}{problem}")
    return Check(kind, settings)


def _read_own(key: str, config: ScorerConfig) -> dict[str, Any]:
    found = split_kind(config.kind)
    if found is None:
        raise ConfigError(f"{key}.kind={config.kind} is not of the form <file.py>:<function>")
    path = Path(found[0]).expanduser().absolute()
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}.kind: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return {"source": source, "path": str(path), "function": found[1]}


def _read_schema(key: str, path: str) -> Any:
    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{key}.schema={path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{key}.schema={path} is not JSON: {error}") from error
