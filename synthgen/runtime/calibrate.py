"""`calibrate`: some units of the configured flow, run and thrown away; what they measured stays for `plan`.

In: a configuration. Out: `<run.dir>/calibration.json`. The units are run in `<run.dir>.calibrate`, which is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from synthgen.config import Config
from synthgen.flow import ResolvedStage, load_flow, resolve_flow
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.observe.report import busy_seconds
from synthgen.planning import ClusterPlan, PoolPlan, StageLedger, plan_pools, plan_replica_speed
from synthgen.records import UnitCounts, add_counts
from synthgen.runtime.cluster import live_cluster, read_cluster
from synthgen.runtime.framing import settle_framing
from synthgen.runtime.plan_ledger import CALIBRATION, StageCalibration, describe_stage
from synthgen.runtime.session import Session


def calibrate(config: Config, *, quiet: bool = False) -> dict[str, StageCalibration]:
    """Run the first `calibrate.units` units of `config` on one replica per pool, and return and store the figures.

    One replica, because then its speed is known whatever the cluster, and the units suffice to keep it busy.

    Raises:
        SynthgenError: as `synthgen.runtime.run.run`. What was committed is kept, and the same call goes on from it.
    """
    config, _ = settle_framing(config)
    flow = load_flow(config)
    stages = resolve_flow(flow)
    size = config.calibrate.units * config.run.unit_size
    scratch = f"{config.run.dir.rstrip('/')}.calibrate"
    small = replace(
        config,
        prompts=replace(config.prompts, limit=min(size, config.prompts.limit or size)),
        run=replace(config.run, dir=scratch),
    )
    RunDir(config.run.dir, config.storage.retry_s).check_writable()
    with live_cluster(config.cluster):
        known = {stage.name: StageLedger(flow=describe_stage(stage)) for stage in stages}
        plan = _take_one_replica(plan_pools(small, read_cluster(config.cluster), ledger=known))
        with Session(small, quiet=quiet) as session:
            prompts = ingest_prompts(session.run_dir, small)
            if flow.check is not None:
                flow.check(session.run_dir.read_unit(PROMPTS, 0))
            session.execute(stages, plan, prompts.unit_rows)
            measured = _measure(session.run_dir, stages, plan, len(prompts.unit_rows), config.plan.efficiency)
    stored = {"units": len(prompts.unit_rows), "stages": {name: asdict(entry) for name, entry in measured.items()}}
    RunDir(config.run.dir).write_json(CALIBRATION, stored)
    RunDir(scratch).storage.delete_tree("")
    return measured


def format_calibration(measured: Mapping[str, StageCalibration], run_dir: str) -> str:
    """Return the figures as lines of text, one stage each."""
    lines = [f"{'stage':<20} {'input/request':>14} {'output/completion':>18} {'tokens/s per replica':>21}"]
    for name, entry in measured.items():
        values = (entry.input_tokens, entry.output_tokens, entry.output_tokens_per_s)
        shown = ["-" if value is None else f"{value:,.1f}" for value in values]
        lines.append(f"{name:<20} {shown[0]:>14} {shown[1]:>18} {shown[2]:>21}")
    return "\n".join([*lines, f"plan uses these figures from {run_dir}/{CALIBRATION}"])


def _take_one_replica(plan: ClusterPlan) -> ClusterPlan:
    pools = tuple(replace(pool, engine=replace(pool.engine, replicas=1)) for pool in plan.pools)
    return replace(plan, pools=pools)


def _measure(
    run_dir: RunDir, stages: Sequence[ResolvedStage], plan: ClusterPlan, units: int, efficiency: float
) -> dict[str, StageCalibration]:
    counts = {s.name: [run_dir.read_counts(s.files.directory, unit) for unit in range(units)] for s in stages}
    ratios = {pool.name: _measure_ratio(pool, stages, counts, plan, efficiency) for pool in plan.pools}
    return {
        stage.name: replace(_measure_stage(stage, counts, plan), speed_ratio=ratios[plan.pool_of(stage.name).name])
        for stage in stages
    }


def _measure_ratio(
    pool: PoolPlan,
    stages: Sequence[ResolvedStage],
    counts: Mapping[str, Sequence[UnitCounts]],
    plan: ClusterPlan,
    efficiency: float,
) -> float | None:
    """Return the measured speed of a pool's replica over the planned one; None: none was planned, or nothing ran."""
    planned_s = 0.0
    mine = [stage for stage in stages if stage.name in pool.stages]
    for stage in mine:
        total = add_counts(counts[stage.name])
        good = total.rows - total.failed_rows
        if not total.requests or not good:
            continue
        lengths = total.input_tokens / total.requests, total.output_tokens / good
        speed = plan_replica_speed(pool, stage.files.stage.model, plan.cluster.gpu, *lengths, efficiency=efficiency)
        if speed is None:
            return None
        planned_s += speed.seconds(total.input_tokens, total.output_tokens)
    busy_s = busy_seconds([item for stage in mine for item in counts[stage.name]])
    return planned_s / busy_s if busy_s and planned_s else None


def _measure_stage(
    stage: ResolvedStage, counts: Mapping[str, Sequence[UnitCounts]], plan: ClusterPlan
) -> StageCalibration:
    pool = plan.pool_of(stage.name)
    total = add_counts(counts[stage.name])
    good = total.rows - total.failed_rows
    # Stages that share a replica share its time: only together have they a speed.
    together = [item for name in pool.stages for item in counts[name]]
    busy_s = busy_seconds(together)
    return StageCalibration(
        model=pool.model_id,
        fingerprint=stage.fingerprint,
        requests=total.requests,
        completions=good,
        input_tokens=total.input_tokens / total.requests if total.requests else None,
        output_tokens=total.output_tokens / good if good else None,
        output_tokens_per_s=sum(item.output_tokens for item in together) / busy_s if busy_s else None,
        gpu=plan.cluster.gpu.name,
        gpus=pool.num_gpus,
    )
