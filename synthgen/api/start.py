"""Composing, planning and running from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from synthgen.api.opened import Run, open_run
from synthgen.config import Config
from synthgen.config.settings import Settings, to_overrides

if TYPE_CHECKING:
    from synthgen.planning import RunPlan


def compose(settings: Settings = (), *, config_dir: str | None = None) -> Config:
    """Return the checked configuration of `settings`.

    Args:
        settings: a mapping (`{"experiment": "echo", "run": {"dir": "runs/a"}}`) or a list of overrides. Where it
            chooses no models and the run directory is there, it is put over the command that made that.
        config_dir: a directory with group files of your own.

    Raises:
        ConfigError: it cannot work; the message is the line that the command prints.
    """
    from synthgen.runtime.goes_on import compose_started

    return compose_started(to_overrides(settings), config_dir).config


class Plan:
    """What a run would do. Its text is what `synthgen plan` prints.

    Attributes:
        details: pools, work left, time, cost.
    """

    def __init__(self, details: RunPlan) -> None:
        self.details = details

    def __repr__(self) -> str:
        from synthgen.planning import format_plan

        return format_plan(self.details)

    def to_dict(self) -> dict[str, Any]:
        """Return it as `synthgen plan plan.format=json` prints it."""
        from synthgen.planning import plan_to_json

        return plan_to_json(self.details)


def plan(settings: Settings | Config = (), *, config_dir: str | None = None) -> Plan:
    """Return what a run would do: the pools, the work that is left, its time and its cost.

    Raises:
        ConfigError: it cannot work, or does not fit.
    """
    from synthgen.planning import make_plan
    from synthgen.runtime.cluster import live_cluster, read_cluster
    from synthgen.runtime.plan_ledger import read_ledger

    config = _config_of(settings, config_dir)
    with live_cluster(config.cluster):
        return Plan(make_plan(config, read_ledger(config), cluster=read_cluster(config.cluster)))


def run(
    settings: Settings | Config = (),
    *,
    config_dir: str | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    quiet: bool | None = None,
) -> Run:
    """Run to the end and return the finished run. The same call goes on where an earlier one ended.

    Args:
        progress: called about once a second, and at each change of state, with what `status.json` holds (`state`,
            `stages`, `tokens_per_s`, `eta_s`, …). What it raises ends the run; what was committed stays.
        quiet: show no progress on the terminal; None: where `progress` is given.

    Raises:
        ConfigError: it cannot work. RunFailedError: it broke. RunStoppedError: a signal or a budget stopped it.
    """
    from synthgen.runtime.prepare import prepare_models
    from synthgen.runtime.run import run as run_config

    config = _config_of(settings, config_dir)
    silent = progress is not None if quiet is None else quiet
    run_config(prepare_models(config), quiet=silent, told=progress)
    return open_run(config.run.dir)


def prove(settings: Settings | Config = (), *, config_dir: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """Prove whether a finished run's data makes a model better, and return what `proof.json` holds (docs/proof.md).

    Args:
        settings: `{"run": {"dir": "runs/a"}, "prove": {"steps": 40}}`, put over the command that made the run.
        quiet: show no progress.

    Raises:
        ConfigError: it cannot work, or the run is not finished. RunFailedError: it broke. RunStoppedError: a signal
            stopped it. The same call goes on from what was made.
    """
    from synthgen.proof import prove as prove_config
    from synthgen.runtime.prepare import prepare_models

    return prove_config(prepare_models(_config_of(settings, config_dir)), quiet=quiet)


def _config_of(settings: Settings | Config, config_dir: str | None) -> Config:
    return settings if isinstance(settings, Config) else compose(settings, config_dir=config_dir)
