"""What each command does. Each takes the overrides and an optional config directory, and returns the exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from synthgen.config.compose import compose_config, compose_tree
from synthgen.errors import ConfigError


def run_run(overrides: Sequence[str], config_dir: str | None) -> int:
    """Run the pipeline and print the summary."""
    config = compose_config(overrides, config_dir)
    from rich.console import Console

    from synthgen.observe.report import summarise
    from synthgen.runtime.prepare import prepare_models
    from synthgen.runtime.run import run

    report = run(prepare_models(config))
    url = report["run_dir"]
    paths = [("dataset", f"{url}/dataset"), ("report", f"{url}/report.html"), ("logs", f"{url}/logs")]
    Console(soft_wrap=False).print(summarise(report, paths))
    return 0


def run_plan(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print what a run would do."""
    config = compose_config(overrides, config_dir)
    from synthgen.planning import format_plan, make_plan, plan_to_json
    from synthgen.runtime.cluster import live_cluster, read_cluster
    from synthgen.runtime.plan_ledger import read_ledger

    with live_cluster(config.cluster):
        plan = make_plan(config, read_ledger(config), cluster=read_cluster(config.cluster))
    if config.plan.format == "json":
        import json

        print(json.dumps(plan_to_json(plan), indent=2))
    else:
        print(format_plan(plan))
    return 0


def run_preview(overrides: Sequence[str], config_dir: str | None) -> int:
    """Run a few prompts all the way through, show them side by side, and keep nothing."""
    from pathlib import Path

    config = compose_config(overrides, config_dir)
    from rich.console import Console

    from synthgen.runtime.prepare import prepare_models
    from synthgen.runtime.preview import make_preview, render_preview, write_preview

    preview = make_preview(prepare_models(config))
    console = Console()
    console.print(render_preview(preview, console.width))
    if config.preview.html:
        write_preview(preview, Path(config.preview.html))
        print(config.preview.html)
    return 0


def run_models(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the model catalog, or with `model=<name> cluster=<preset>` the formats of one model that fit there."""
    from synthgen.config.resources import project_path
    from synthgen.planning import format_models, list_models

    name, rest = take_value(overrides, "model")
    if name is not None:
        from synthgen.planning.formats import format_choices, list_formats

        cluster = compose_config(["experiment=echo", *rest], config_dir).cluster
        print(format_choices(list_formats(name, cluster), cluster.name))
        return 0
    if rest:
        raise ConfigError(f"models takes model=<name> and cluster=<preset>, but got {rest[0]!r}")
    print(format_models(list_models(project_path("conf"))))
    return 0


def run_publish(overrides: Sequence[str], config_dir: str | None) -> int:
    """Publish a run's dataset to the Hub or to a directory."""
    from synthgen.config.saved import read_saved_config
    from synthgen.export.finished import open_dataset
    from synthgen.publish.dataset import describe_result, publish_run

    path, rest = take_run_dir(overrides)
    run_dir, manifest = open_dataset(path, "publish")
    config = read_saved_config(manifest.config, rest)
    print(describe_result(publish_run(run_dir.storage, manifest, config)))
    return 0


def run_status(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print how far a run is, as text or (`format=json`) as JSON."""
    import json

    from rich.console import Console

    from synthgen.ledger.run_dir import RunDir
    from synthgen.observe.status import read_status, render_status

    path, rest = take_run_dir(overrides)
    if path is None:
        raise ConfigError("status needs a run directory; give it as run_dir=<path or URL>")
    if rest not in ([], ["format=text"], ["format=json"]):
        raise ConfigError(f"status takes run_dir=… and format=text|json, but got {' '.join(rest)}")
    status = read_status(RunDir(path))
    if rest == ["format=json"]:
        print(json.dumps(status, indent=2))
    else:
        Console().print(render_status(status))
    return 0


def run_report(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the trust report of a finished run, and write its `report.html` anew."""
    from synthgen.export.finished import open_report
    from synthgen.observe.status import describe_later_start, read_status
    from synthgen.observe.view import write_page
    from synthgen.trust import format_trust

    path, rest = take_run_dir(overrides)
    if rest:
        raise ConfigError(f"report takes run_dir=… alone, but got {rest[0]!r}")
    run_dir, report, exported_at = open_report(path, "report")
    write_page(run_dir, report)
    if "trust" in report:
        print(format_trust(report["trust"]))
    if (note := describe_later_start(read_status(run_dir), exported_at)) is not None:
        print(note)
    print(f"{run_dir.url}/report.html")
    return 0


def run_judge_eval(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print how often the judge agrees with the labels of `data=`; `recorded=` scores texts that it gave before."""
    from synthgen.judge_eval import evaluate, format_eval, judgements_from_texts, read_labelled

    data, rest = take_value(overrides, "data")
    recorded, rest = take_value(rest, "recorded")
    if data is None:
        raise ConfigError("judge-eval needs a labelled preference file: data=<file, directory or Hub id>")
    if recorded is not None:
        labelled = read_labelled(data, key="data")
        print(format_eval(evaluate(labelled, judgements_from_texts(labelled, recorded, key="recorded"))))
        return 0
    from synthgen.runtime.judge_eval import run_judge_eval
    from synthgen.runtime.prepare import prepare_models

    chosen = any(override.startswith("experiment=") for override in rest)
    config = compose_config(rest if chosen else ["experiment=judge_eval", *rest], config_dir, judge_only=True)
    print(format_eval(run_judge_eval(prepare_models(config), data)))
    return 0


def run_calibrate(overrides: Sequence[str], config_dir: str | None) -> int:
    """Measure some units of the configured flow, for `plan` to use, and print the figures."""
    config = compose_config(overrides, config_dir)
    from synthgen.runtime.calibrate import calibrate, format_calibration
    from synthgen.runtime.prepare import prepare_models

    print(format_calibration(calibrate(prepare_models(config)), config.run.dir))
    return 0


def run_doctor(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print what this machine or cluster can run; the exit status is 1 where something that is needed is missing."""
    from synthgen.doctor import examine, format_checks

    chooses_models = any(override.startswith(("experiment=", "model@")) for override in overrides)
    config = compose_config(overrides if chooses_models else ["experiment=echo", *overrides], config_dir)
    found = []
    for check in examine(config):
        found.append(check)
        print(format_checks([check]), flush=True)
    return int(any(check.verdict == "missing" for check in found))


def run_config(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the composed configuration."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(compose_tree(overrides, config_dir)), end="")
    return 0


def take_run_dir(overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `run_dir=` (or `run.dir=`), and the other overrides."""
    return take_value(overrides, "run_dir", "run.dir")


def take_value(overrides: Sequence[str], *names: str) -> tuple[str | None, list[str]]:
    """Return the value of the override that has one of `names` as its key, and the other overrides."""
    found: str | None = None
    rest: list[str] = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in names:
            found = value.strip("'\"")
        else:
            rest.append(override)
    return found, rest


COMMANDS: dict[str, Callable[[Sequence[str], Any], int]] = {
    "run": run_run,
    "plan": run_plan,
    "preview": run_preview,
    "calibrate": run_calibrate,
    "doctor": run_doctor,
    "status": run_status,
    "report": run_report,
    "publish": run_publish,
    "judge-eval": run_judge_eval,
    "models": run_models,
    "config": run_config,
}
