"""`run`: the whole way from a configuration to a dataset, once. Starting it again goes on where it ended."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from synthgen.config import Config
from synthgen.config.saved import dump_config
from synthgen.export import Prefix
from synthgen.export.files import CARD, ROOT
from synthgen.export.finished import read_last_report
from synthgen.export.kept import check_columns
from synthgen.export.swap import commit_export, stage_export
from synthgen.flow import Flow, ResolvedStage, load_flow, resolve_flow
from synthgen.ledger.ingest import PromptLedger, ingest_prompts
from synthgen.ledger.read_ahead import read_ahead
from synthgen.ledger.run_dir import PROMPTS, CorruptUnitError, RunDir
from synthgen.ledger.sessions import describe_sessions, read_sessions
from synthgen.observe.report import join_parts, make_report, stage_report
from synthgen.observe.view import write_page
from synthgen.planning import ClusterPlan, StageLedger, plan_pools
from synthgen.publish.licences import check_licences
from synthgen.records import Tables
from synthgen.runtime.cluster import live_cluster, read_cluster
from synthgen.runtime.framing import settle_framing
from synthgen.runtime.given import commit_given
from synthgen.runtime.other_runs import OtherRun
from synthgen.runtime.plan_ledger import bound_prompts, describe_stage
from synthgen.runtime.reuse import describe_taken, open_others, take_rows
from synthgen.runtime.session import Session
from synthgen.runtime.target import Target, describe_shortfall
from synthgen.runtime.units import drop_stale_units, make_unit_reader
from synthgen.stages.base import measure_stage, tables_by_kind

logger = logging.getLogger(__name__)

MOST_REPAIRS = 2
"""How often a start makes one damaged file anew before it gives up: a disk may be dying."""
MOST_ROUNDS = 32
"""How often it does so for damage that it finds one after the other, each file for itself."""


Told = Callable[[Mapping[str, Any]], None] | None


def run(config: Config, *, quiet: bool = False, told: Told = None) -> dict[str, Any]:
    """Run `config` to its end and return the report (also in `<run.dir>/report.json`).

    Args:
        quiet: show no progress. told: called about once a second with what `status.json` holds.

    Raises:
        ConfigError: it cannot work. RunFailedError: it broke. RunStoppedError: it was stopped. Whatever was committed
            is kept, and the same call goes on from it.
    """
    config, note = settle_framing(config)
    if note:
        print(f"synthgen: {note}", file=sys.stderr, flush=True)
    flow = load_flow(config)
    stages = resolve_flow(flow)
    others, notes = open_others(config)
    for note in notes:
        print(f"synthgen: {note}", file=sys.stderr, flush=True)
    with live_cluster(config.cluster):
        return _run_planned(config, flow, stages, others, quiet=quiet, told=told)


def _run_planned(
    config: Config,
    flow: Flow,
    stages: Sequence[ResolvedStage],
    others: Sequence[OtherRun],
    *,
    quiet: bool,
    told: Told,
) -> dict[str, Any]:
    known = {stage.name: StageLedger(flow=describe_stage(stage)) for stage in stages}
    plan = plan_pools(config, read_cluster(config.cluster), ledger=known)
    for warning in check_licences(config).warnings:
        print(f"synthgen: warning: {warning}", file=sys.stderr, flush=True)
    with Session(config, quiet=quiet, told=told) as session:
        run_dir = session.run_dir
        found: Counter[tuple[str, int]] = Counter()
        while True:
            try:
                report = _run_once(session, flow, stages, others, plan)
                break
            except CorruptUnitError as error:
                found[error.directory, error.unit] += 1
                if found[error.directory, error.unit] > MOST_REPAIRS or found.total() > MOST_ROUNDS:
                    raise
                print(f"synthgen: {error}; it is made again", file=sys.stderr, flush=True)
        write_page(run_dir, report)
        run_dir.write_json("report.json", report)
        run_dir.storage.replace("config.yaml", _encode(dump_config(config)))
        session.view.write_status("complete")
        return report


def _run_once(
    session: Session,
    flow: Flow,
    stages: Sequence[ResolvedStage],
    others: Sequence[OtherRun],
    plan: ClusterPlan,
) -> dict[str, Any]:
    """Make what is not committed yet and export all, and return the report.

    Raises:
        CorruptUnitError: there is damage; what was found of it is set aside now.
    """
    run_dir, config = session.run_dir, session.config
    session.view.write_status("ingesting")
    try:
        prompts = ingest_prompts(run_dir, config)
        for note in prompts.notes:
            print(f"synthgen: {note}", file=sys.stderr, flush=True)
        if flow.check is not None:
            flow.check(run_dir.read_unit(PROMPTS, 0))
        if config.export.keep_columns:
            units = range(len(prompts.unit_rows))
            check_columns(config.export.keep_columns, (run_dir.read_unit(PROMPTS, unit) for unit in units))
        for name, again in drop_stale_units(run_dir, stages, prompts).items():
            print(f"synthgen: prompts have changed: {name} makes {len(again)} units again", file=sys.stderr, flush=True)
        for note in commit_given(run_dir, config, stages, prompts):
            print(f"synthgen: {note}", file=sys.stderr, flush=True)
        if others:
            taken = take_rows(run_dir, others, stages, range(len(prompts.unit_rows)))
            for line in describe_taken(taken, others, stages):
                print(f"synthgen: {line}", file=sys.stderr, flush=True)
        plan = _bound_context(config, plan, stages, bound_prompts(prompts, stages))
        target = _make_target(config, flow, make_unit_reader(run_dir, stages, prompts), prompts.unit_rows)
        execution = session.execute(stages, plan, prompts.unit_rows, target)
    except CorruptUnitError as error:
        run_dir.set_aside(error)
        raise
    session.lease.check()
    session.view.write_status("exporting")
    wanted = len(prompts.unit_rows) if target is None or target.units is None else target.units
    return _export(config, flow, stages, prompts, run_dir, execution.reused, plan, range(wanted))


def _make_target(
    config: Config, flow: Flow, read_tables: Callable[[int], Tables], unit_rows: Sequence[int]
) -> Target | None:
    if config.pairs.target is None or config.pipeline == "task":
        return None
    return Target(config.pairs, Prefix(read_tables, tables_by_kind(flow.stages), config), unit_rows)


def _bound_context(
    config: Config, plan: ClusterPlan, stages: Sequence[ResolvedStage], longest: Mapping[str, int] | None
) -> ClusterPlan:
    """Return the plan with contexts that the data need, where the configuration leaves `max_model_len` open.

    It is no part of a fingerprint: a longer prompt that comes later gets a longer context at the next start.
    """
    if longest is None:
        return plan
    ledger = {
        stage.name: StageLedger(longest_prompt=longest[stage.name], flow=describe_stage(stage)) for stage in stages
    }
    return plan_pools(config, plan.cluster, ledger=ledger)


def _export(
    config: Config,
    flow: Flow,
    stages: Sequence[ResolvedStage],
    prompts: PromptLedger,
    run_dir: RunDir,
    reused: Mapping[str, int],
    plan: ClusterPlan,
    units: range,
) -> dict[str, Any]:
    """Let a data set of the committed units take the place of the earlier one, and return the report."""
    from synthgen.publish.card import make_figures

    read_tables = make_unit_reader(run_dir, stages, prompts)

    with stage_export(run_dir.storage) as staged:
        try:
            made = tables_by_kind(flow.stages)
            exported = flow.export(staged, units, read_tables, made, config)
            totals = {
                stage.name: stage_report(run_dir, stage, len(units), min(reused[stage.name], len(units)))
                for stage in stages
            }
            measured = list(_measure(stages, units, read_tables))
        except CorruptUnitError:
            _set_damage_aside(units, read_tables, run_dir)
            raise
        extra = join_parts(exported.report, measured)
        pairs = exported.pairs
        if (target := config.pairs.target) is not None and "made" in pairs:
            pairs = {**pairs, "target": target}
            if pairs["made"] < target:
                print(f"synthgen: warning: {describe_shortfall(target, pairs)}", file=sys.stderr, flush=True)
        report = make_report(config, prompts=prompts, stages=totals, pairs=pairs, extra=extra)
        before = read_last_report(run_dir)
        report |= {
            "run_dir": run_dir.url,
            **describe_sessions(read_sessions(run_dir, before), before),
            "plan": {"mode": plan.mode, "pools": [asdict(pool) for pool in plan.pools]},
        }
        for path, data in make_figures(report).items():
            staged.replace(f"{ROOT}/{path}", data)
        staged.replace(f"{ROOT}/{CARD}", _encode(flow.card(report, config, exported.dataset)))
        commit_export(
            run_dir.storage,
            staged,
            config=dump_config(config),
            stages={stage.name: stage.files.directory for stage in stages},
            dataset=exported.dataset,
            report=report,
        )
    return report


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _set_damage_aside(units: range, read_tables: Callable[[int], Tables], run_dir: RunDir) -> None:
    """Set aside every file that cannot be used, so that the next start makes all of them anew and not one."""
    for unit in units:
        try:
            read_tables(unit)
        except CorruptUnitError as error:
            logger.warning("%s; it is set aside", error)
            run_dir.set_aside(error)
        except FileNotFoundError:
            continue  # what was made from it is set aside at the next start


def _measure(
    stages: Sequence[ResolvedStage], units: range, read_tables: Callable[[int], Tables]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (name, part of the report) of every stage that has one."""
    by_name = {stage.name: stage.files.stage for stage in stages}
    for name, stage in by_name.items():
        upstream = {source: by_name[source] for source in stage.inputs if source in by_name}
        part = measure_stage(stage, read_ahead(read_tables, units), upstream)
        if part is not None:
            yield name, part
