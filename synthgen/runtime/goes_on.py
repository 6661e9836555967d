"""A run directory is enough: its saved command, with what is given now over it.

`run`, `plan` and `preview` need the whole command only the first time. Later `synthgen run runs/first pairs=all_pairs`
is the command that made `runs/first` and one override more. What is saved is the command, not only what came of it:
an override of a group (`judge=ratings_only`) leaves single keys that were given before (`judge.orders=2`) as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from yaml import YAMLError

from synthgen.config import Config
from synthgen.config.compose import compose_config, key_of
from synthgen.config.saved import read_saved_config
from synthgen.errors import ConfigError, one_line
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.sessions import SESSIONS
from synthgen.runtime.plan_ledger import read_ledger

logger = logging.getLogger(__name__)

_RUN_DIR = ("run.dir", "run_dir")
_NOT_CHOSEN = " is not chosen; give "


@dataclass(frozen=True)
class Started:
    """A configuration, and where it comes from.

    Attributes:
        config: validated.
        before: the overrides of the command that is gone on with; empty: what was given is a whole command.
        now: those that were put over it.
    """

    config: Config
    before: tuple[str, ...] = ()
    now: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a line for people; empty where nothing is gone on with."""
        if not self.before:
            return ""
        changes = f", with {' '.join(self.now)}" if self.now else ""
        return f"going on with {self.config.run.dir} as it was started ({' '.join(self.before)}){changes}"


def compose_started(overrides: Sequence[str], config_dir: str | None = None) -> Started:
    """Return the configuration of `overrides`, or of the run directory that they name with them put over it.

    With `run_dir=` the directory's own command is gone on with, unless an experiment is chosen; with `run.dir=` only
    where `overrides` choose no models, and so are no whole command.

    Raises:
        ConfigError: as `compose_config`; or the run directory does not hold the command that made it.
    """
    found = [override for override in overrides if key_of(override) in _RUN_DIR]
    goes_on = any(key_of(override) == "run_dir" for override in found)
    given = found[-1].partition("=")[2] if found else ""
    url = given.strip("'\"").replace("\\'", "'") or None
    saved = None
    if goes_on and url is not None and not any(key_of(override) == "experiment" for override in overrides):
        saved = _read_saved(url)
    if saved is None or not saved.run.overrides:
        try:
            return Started(compose_config(overrides, config_dir))
        except ConfigError as error:
            if url is None or _NOT_CHOSEN not in str(error):
                raise
            saved = _read_saved(url)
            if saved is None and RunDir(url, reads_only=True).storage.exists("status.json"):
                raise ConfigError(
                    f"run.dir={url} holds no command that can be read: its start ended before any model ran, or the "
                    "files that keep it are damaged; give the whole command again"
                ) from error
            if saved is None:
                raise
    if not saved.run.overrides:
        raise ConfigError(
            f"run.dir={url} does not hold the command that made it (an earlier version did); "
            "give the whole command, and it is kept from then on"
        )
    now = [override for override in overrides if key_of(override) not in _RUN_DIR]
    keys = {key_of(override) for override in now}
    before = [override for override in saved.run.overrides if not _is_replaced(key_of(override), keys)]
    config = compose_config([*before, *now, f"run.dir={given}"], config_dir or saved.run.config_dir)
    return Started(config, tuple(before), tuple(now))


def _is_replaced(key: str, keys: set[str]) -> bool:
    """Return whether what is given now stands in the place of an earlier key; `model` is a model for all places."""
    return key in keys or ("model" in keys and key.partition("@")[0] == "model")


def describe_reuse(config: Config) -> str:
    """Return a line that says of each stage how many of its units are there already."""
    units = read_ledger(config).items()
    return "; ".join(f"{name}: {entry.units_done} of {entry.units_total} units are there" for name, entry in units)


def _read_saved(url: str) -> Config | None:
    """Return the configuration of the exported data, or else of the last start that can be read; None: there is none.

    Whatever is damaged counts as absent: the command can be given anew, and nothing of the data hangs on it.
    """
    run_dir = RunDir(url, reads_only=True)
    names = sorted((name for name in run_dir.storage.list(SESSIONS) if name.endswith(".json")), reverse=True)
    for name in (None, *names):
        if name is None:
            text = run_dir.read_or(b"", "config.yaml").decode("utf-8", "replace")
        else:
            text = str((run_dir.read_json(name, "config") or {}).get("config", ""))
        try:
            if text.strip():
                return read_saved_config(text)
        except (ConfigError, YAMLError, ValueError) as error:
            logger.warning("%s/%s cannot be read: %s", url, name or "config.yaml", one_line(error))
    return None
