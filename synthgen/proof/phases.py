"""`prove`: from a finished run to evidence, in phases that are each kept: choose, train, train the control, answer and
score, sum up. Killed at any point, the same command goes on and ends in the same figures.

Everything lies in `<run.dir>/proofs/<fingerprint>/`, which is a small run directory of its own: a lease, a log, units
of prompts, answers and scores, `status.json`. Of the run itself nothing is changed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen.config import Config, ProveControl
from synthgen.errors import ConfigError
from synthgen.export.proofs import PROOF, PROOFS
from synthgen.flow import ResolvedStage
from synthgen.ledger.run_dir import PROMPTS
from synthgen.planning import plan_pools
from synthgen.proof.answers import AFTER, BEFORE, CONTROL, has_checks, make_config, make_stages, resolve_answers
from synthgen.proof.measure import WORSE_WHEN, Answers, gather, measure, read_difference
from synthgen.proof.page import make_page
from synthgen.proof.selection import add_prompt_ids, hold_out, select_rows, shuffle_sides
from synthgen.proof.settings import ProofSettings, describe_settings, settle
from synthgen.proof.source import Source, open_source, read_side
from synthgen.proof.statistics import decide, decide_control, find_side_effects
from synthgen.proof.training import Lines, train_once, write_rows
from synthgen.records import PROMPTS_SCHEMA
from synthgen.runtime.cluster import live_cluster, read_cluster
from synthgen.runtime.session import Session

FORMAT = 1
SELECTION = "selection.json"
SAMPLES = 40


@dataclass(frozen=True)
class _Choice:
    """What is answered and what is trained on, before anything is written."""

    held_out: pa.Table
    side: pa.Table | None
    rows: pa.Table
    root: Path

    @property
    def prompts(self) -> pa.Table:
        """All prompts that are answered, those of another kind last."""
        return pa.concat_tables([self.held_out, *([] if self.side is None else [self.side])])

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        found: list[str] = self.prompts["prompt_id"].to_pylist()
        return found


def prove(config: Config, *, quiet: bool = False) -> dict[str, Any]:
    """Prove whether the data of the run in `config.run.dir` makes a model better, and return `proof.json`.

    Args:
        config: the run's configuration with `prove.*` of one's own.
        quiet: show no progress.

    Raises:
        ConfigError: it cannot work, or the run is not finished. RunFailedError: it broke. RunStoppedError: it was
            stopped. What was made is kept, and the same call goes on from it.
    """
    source = open_source(config)
    settings = settle(config, source.made)
    choice = _choose(config, settings, source)
    trained = [AFTER, *([CONTROL] if settings.prove.control is ProveControl.shuffled else [])]
    places = {name: str(settings.find_place(choice.root, name)) for name in trained}
    asking = make_config(config, settings, choice.root, places, has_checks(choice.side))
    make_stages(asking)  # refuses scorers that cannot work, before anything is trained
    _tell(
        f"proof in {choice.root}: {settings.prove.train.value} on {choice.rows.num_rows} rows of "
        f"{len(set(choice.rows['prompt_id'].to_pylist()))} prompts, {choice.held_out.num_rows} others are held out",
        quiet,
    )
    begun = time.monotonic()
    with Session(asking, quiet=quiet) as session:
        _commit_choice(session, choice, settings, trained)
        trainings = {name: _train(session, choice.root, name, settings, quiet=quiet) for name in trained}
        session.lease.check()
        stages = resolve_answers(asking, {name: str(one["weights"]) for name, one in trainings.items()})
        unit_rows = _answer(session, asking, stages, choice)
        tables = {stage.name: _read(session, stage, unit_rows) for stage in stages}
        proof = _sum_up(asking, settings, choice, source, tables, trainings)
        proof["seconds"] = round(time.monotonic() - begun, 1)
        _write(session, choice.root, proof)
        session.view.write_status("complete")
    return proof


def _choose(config: Config, settings: ProofSettings, source: Source) -> _Choice:
    """Return what is held out and what is trained on.

    Raises:
        ConfigError: nothing is left of one of the two.
    """
    prove = settings.prove
    held_out = hold_out(source.read_prompts(), settings.holdout, prove.prompts, prove.seed)
    rows = select_rows(source.read_rows(prove.train), settings.holdout, prove.train, prove.steps, prove.seed)
    if held_out.num_rows == 0 or rows.num_rows == 0:
        what = "no prompt is held out" if held_out.num_rows == 0 else "no row is left to train on"
        raise ConfigError(
            f"prove.holdout={settings.holdout:g}: {what} of run.dir={config.run.dir}; change it, or make more prompts"
        )
    side = read_side(config)
    if side is not None:
        taken = {*held_out["prompt_id"].to_pylist(), *add_prompt_ids(rows)["prompt_id"].to_pylist()}
        mask = pa.array([prompt_id not in taken for prompt_id in side["prompt_id"].to_pylist()], pa.bool_())
        side = side.select(PROMPTS_SCHEMA.names).cast(PROMPTS_SCHEMA).filter(mask)
    ids = [] if side is None else side["prompt_id"].to_pylist()
    fingerprint = settings.fingerprint(source.data, held_out["prompt_id"].to_pylist(), ids)
    return _Choice(held_out, side, rows, source.root / PROOFS / fingerprint)


def _commit_choice(session: Session, choice: _Choice, settings: ProofSettings, trained: Sequence[str]) -> None:
    """Write what was chosen; `selection.json` last, with which everything is there."""
    run_dir, size = session.run_dir, session.config.run.unit_size
    session.view.write_status("ingesting")
    for unit, low in enumerate(range(0, choice.prompts.num_rows, size)):
        run_dir.commit_unit(PROMPTS, unit, choice.prompts.slice(low, size))
    rows = {AFTER: choice.rows}
    if CONTROL in trained:
        rows[CONTROL] = shuffle_sides(choice.rows, settings.prove.train, settings.prove.seed)
    for name, table in rows.items():
        if not (choice.root / "data" / name / "README.md").is_file():
            write_rows(choice.root, name, table.drop_columns(["prompt_id"]))
    run_dir.write_json(
        SELECTION,
        {
            "held_out": choice.held_out["prompt_id"].to_pylist(),
            "side": [] if choice.side is None else choice.side["prompt_id"].to_pylist(),
            "rows": choice.rows.num_rows,
        },
    )


def _train(session: Session, root: Path, name: str, settings: ProofSettings, *, quiet: bool) -> dict[str, Any]:
    session.view.write_status("training", name)
    lines = Lines(session.config.run.log_interval_s, quiet=quiet)
    status = _every(session.config.run.log_interval_s, lambda line: session.view.write_status("training", line))

    def tell(line: str) -> None:
        lines(line)
        status(line)

    return train_once(root, name, settings, check=session.check, told=tell)


def _answer(session: Session, config: Config, stages: Sequence[ResolvedStage], choice: _Choice) -> list[int]:
    """Let all models answer and all scorers score what is not there yet, and return the rows of each unit."""
    size = config.run.unit_size
    unit_rows = [min(size, choice.prompts.num_rows - low) for low in range(0, choice.prompts.num_rows, size)]
    models = {stage.name: stage.files.stage.model for stage in stages}
    session.view.write_status("running")
    with live_cluster(config.cluster):  # from here on, so that training has the machines before
        session.execute(stages, plan_pools(config, read_cluster(config.cluster), stages=models), unit_rows)
    return unit_rows


def _read(session: Session, stage: ResolvedStage, unit_rows: Sequence[int]) -> pa.Table:
    units = [
        session.run_dir.read_unit(stage.files.directory, unit).replace_schema_metadata(None)
        for unit in range(len(unit_rows))
    ]
    return pa.concat_tables(units, promote_options="default")


def _sum_up(
    config: Config,
    settings: ProofSettings,
    choice: _Choice,
    source: Source,
    tables: Mapping[str, pa.Table],
    trainings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return `proof.json`: the figures, the verdict, and how they were made."""
    answers = gather(tables, config, choice.ids)
    held = choice.held_out.num_rows
    figures = measure(answers, range(held), len(choice.ids), settings)
    side = (
        measure(answers, range(held, len(choice.ids)), len(choice.ids), settings) if choice.side is not None else None
    )
    entry = figures["scorers"].get(settings.decides)
    controlled = CONTROL in trainings
    effect, over = read_difference(entry, "effect"), read_difference(entry, "over_control")
    verdict = decide(effect, over, controlled=controlled)
    control = decide_control(read_difference(entry, "control")) if controlled else None
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "directory": f"{PROOFS}/{choice.root.name}",
        "data": source.data,
        "settings": describe_settings(settings),
        "rows": choice.rows.num_rows,
        "prompts": len(set(choice.rows["prompt_id"].to_pylist())),
        "held_out": held,
        "verdict": {"helps": verdict.helps, "text": verdict.text, "reasons": list(verdict.reasons)},
        "control_verdict": None if control is None else {"text": control.text, "reasons": list(control.reasons)},
        "got_worse": _find_worse(figures, side),
        "figures": figures,
        "side": side,
        "training": {name: dict(one) for name, one in trainings.items()},
        "load": round(os.getloadavg()[0], 2),
        "samples": _sample(answers, choice.prompts, settings.decides, held),
    }


def _find_worse(figures: Mapping[str, Any], side: Mapping[str, Any] | None) -> list[str]:
    """Return what got worse: traits on both kinds of prompts, and right answers to those of another kind."""
    found = []
    for where, measured in (("held-out prompts", figures), ("other prompts", side)):
        if measured is None:
            continue
        both = {**measured["traits"], **measured["scorers"]}
        changes = {name: read_difference(entry, "effect") for name, entry in both.items()}
        found += [f"{name} ({where})" for name in find_side_effects(changes, WORSE_WHEN)]
    return found


def _sample(answers: Answers, prompts: pa.Table, decides: str, held: int) -> list[dict[str, Any]]:
    """Return some prompts with the first answer of each model."""
    first: dict[tuple[int, str], int] = {}
    for row, key in enumerate(zip(answers.prompt.tolist(), answers.generator.tolist(), strict=True)):
        first.setdefault((key[0], str(key[1])), row)
    messages = prompts["messages"].to_pylist()
    half = SAMPLES // 2
    shown = [*range(min(held, half)), *range(held, min(len(messages), held + half))]
    values = answers.values.get(decides)
    return [
        {
            "prompt": messages[number],
            "held_out": number < held,
            "answers": {
                name: {
                    "text": answers.texts[first[number, name]],
                    "value": _finite(values[first[number, name]]) if values is not None else None,
                    "tokens": _finite(answers.traits["tokens"][first[number, name]]),
                }
                for name in (BEFORE, AFTER, CONTROL)
                if (number, name) in first
            },
        }
        for number in shown
    ]


def _finite(value: float) -> float | None:
    return None if value != value else float(value)


def _write(session: Session, root: Path, proof: Mapping[str, Any]) -> None:
    storage = session.run_dir.storage
    storage.replace("proof.html", make_page(proof).encode("utf-8", "backslashreplace"))
    storage.replace(PROOF, (json.dumps(proof, indent=1, allow_nan=False) + "\n").encode())


def _every(interval_s: float, do: Callable[[str], None]) -> Callable[[str], None]:
    """Return `do`, called at most once in `interval_s`."""
    last = [0.0]

    def limited(line: str) -> None:
        if time.monotonic() - last[0] >= interval_s:
            last[0] = time.monotonic()
            do(line)

    return limited


def _tell(line: str, quiet: bool) -> None:
    if not quiet:
        print(f"synthgen: {line}", file=sys.stderr, flush=True)
