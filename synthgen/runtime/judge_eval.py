"""`judge-eval`: the configured judge over a labelled preference file, in both orders, as an ordinary resumable run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from synthgen.config import Config, JudgeConfig, JudgeMode
from synthgen.config.stage_names import JUDGE, name_generations
from synthgen.flow import ResolvedStage, model_fields
from synthgen.judge_eval import GENERATOR, LabelledSet, evaluate, read_labelled, to_unit_tables
from synthgen.ledger.run_dir import FIRST_CONTACT_S, LABELLED, PROMPTS, RunDir, stage_directory
from synthgen.planning import plan_pools
from synthgen.records import SCHEMA_VERSION, stable_hex
from synthgen.runtime.cluster import live_cluster, read_cluster
from synthgen.runtime.framing import choose_framing
from synthgen.runtime.session import Session
from synthgen.stages.base import StageFiles
from synthgen.stages.judge import JudgeStage


def run_judge_eval(config: Config, data: str, orders: int | None = None) -> dict[str, Any]:
    """Judge the pairs of `data` and return how the judge did (also in `<run.dir>/judge_eval.json`).

    Args:
        orders: how often each pair is judged; None: in both orders, and once where there are none (pointwise).

    Raises:
        ConfigError: the file cannot be read, or the configuration cannot work.
    """
    labelled = read_labelled(data, key="data")
    resolved, slices = _resolve(config, labelled, orders)
    with live_cluster(config.cluster):
        plan = plan_pools(config, read_cluster(config.cluster), stages={JUDGE: config.judge.model})
        with Session(config) as session:
            _write_units(session.run_dir, resolved, labelled, slices)
            session.execute([resolved], plan, [high - low for low, high in slices])
            directory = resolved.files.directory
            tables = [
                session.run_dir.read_unit(directory, unit).replace_schema_metadata(None) for unit in range(len(slices))
            ]
            use_expected = config.judge.expected
            result = evaluate(labelled, pa.concat_tables(tables), use_expected=use_expected, seed=config.run.seed)
            session.run_dir.write_json("judge_eval.json", result)
            session.view.write_status("complete")
            return result


def _resolve(
    config: Config, labelled: LabelledSet, orders: int | None = None
) -> tuple[ResolvedStage, list[tuple[int, int]]]:
    """Return the judge's stage with directories that belong to this data, and the slices of pairs that are units."""
    size = config.run.unit_size
    slices = [(low, min(low + size, len(labelled.pairs))) for low in range(0, len(labelled.pairs), size)]
    if orders is None:
        orders = 1 if config.judge.mode is JudgeMode.pointwise and config.judge.temperature == 0 else 2
    asked = replace(config.judge, orders=orders, canary_fraction=0.0)
    identity = stable_hex([[pair.id, *pair.texts] for pair in labelled.pairs], size, digits=12)

    def resolve(judge: JudgeConfig) -> ResolvedStage:
        stage = JudgeStage(judge, (GENERATOR,), config.run.seed)
        fingerprint = stable_hex(
            SCHEMA_VERSION, stage.name, dict(stage.fingerprint_fields()), model_fields(stage.model), identity, digits=12
        )
        answers = name_generations(GENERATOR)
        inputs = {PROMPTS: stage_directory(LABELLED, identity), answers: stage_directory(answers, identity)}
        return ResolvedStage(StageFiles(stage, stage_directory(stage.name, fingerprint), inputs), fingerprint)

    settled, note = choose_framing(
        replace(config, judge=asked),
        RunDir(config.run.dir, min(config.storage.retry_s, FIRST_CONTACT_S), reads_only=True),
        lambda framing: resolve(replace(asked, framing=framing)).files.directory,
    )
    if note:
        print(f"synthgen: {note}", file=sys.stderr, flush=True)
    return resolve(settled.judge), slices


def _write_units(
    run_dir: RunDir, resolved: ResolvedStage, labelled: LabelledSet, slices: Sequence[tuple[int, int]]
) -> None:
    for unit, (low, high) in enumerate(slices):
        for name, table in to_unit_tables(labelled.pairs[low:high]).items():
            run_dir.commit_unit(resolved.files.inputs[name], unit, table)
