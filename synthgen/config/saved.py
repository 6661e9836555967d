"""A configuration as text and back: `config.yaml` of a run directory, without secrets and whole on the way back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any, cast

from synthgen.config import Config
from synthgen.config.typed import keep_texts
from synthgen.errors import ConfigError
from synthgen.records import stable_hex

SECRET = re.compile(r"(^|_)(token|secret|password|credentials?|api_?key|access_key|secret_access_key)$", re.IGNORECASE)
_NUMBER_TO_OMEGACONF = re.compile(r"[-+]?[\d_.]+[eE][-+]?\d+")
WHERE_NOT_WHAT = ("cluster", "plan", "preview", "prove", "publish")
"""Groups that say where a run happens and who sees it, not what it makes."""

OF_THE_START = ("dir", "overrides", "config_dir", "reuse")
"""Keys of `run` that say how and where it was started, and what was there already."""


def dump_config(config: Config) -> str:
    """Return `config` as YAML that `read_saved_config` reads back; values of keys named like secrets are left out."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes text such as 7e10, which OmegaConf reads as a number, and PyYAML does not."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        if _NUMBER_TO_OMEGACONF.fullmatch(text):
            return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")
        return dumper.represent_str(text)

    Dumper.add_representer(str, represent)
    plain = escape_interpolations(_redact(_plain(asdict(config))))
    text: str = yaml.dump(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text


def read_saved_config(text: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that a run saved, with `overrides` (dotted keys) put over it.

    Raises:
        ConfigError: an override does not name a key, says what made the data, or its value does not fit.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        key = override.partition("=")[0]
        if "." not in key or "@" in key:
            raise ConfigError(
                f"{override}: a finished run keeps its groups; give single keys, such as publish.private=false"
            )
        if not key.startswith("publish.") and not key.endswith(".license"):
            raise ConfigError(
                f"{override}: what made the data cannot be changed now; give keys of publish, or the license of a model"
            )
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Config), OmegaConf.create(text), OmegaConf.from_dotlist(keep_texts(overrides))
        )
        return cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def fingerprint_config(config: Config) -> str:
    """Return a hash of what a run makes: the same in another directory, on another cluster, for another repository."""
    fields = _plain(asdict(config))
    for key in OF_THE_START:
        del fields["run"][key]
    return stable_hex({key: value for key, value in fields.items() if key not in WHERE_NOT_WHAT})


def escape_interpolations(value: Any) -> Any:
    """Escape `${` in every string: OmegaConf reads it as an interpolation (and a backslash before it as its escape)."""
    if isinstance(value, dict):
        return {key: escape_interpolations(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_interpolations(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: f"{match[1]}{match[1]}\\${{", value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _redact(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "<redacted>" if isinstance(item, str) and item and SECRET.search(str(key)) else _redact(item)
            for key, item in value.items()
        }
    return [_redact(item) for item in value] if isinstance(value, list) else value
