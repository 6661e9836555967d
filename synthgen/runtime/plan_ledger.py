"""What a run directory and its prompt source tell `plan`: units done, prompt lengths, and what finished units measured.

Reads files only: no Ray, no engine.

One file because all of it answers one question.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import ClusterConfig, Config
from synthgen.config.stage_names import HISTORY
from synthgen.errors import ConfigError
from synthgen.flow import ResolvedStage, load_flow, resolve_flow
from synthgen.ledger.ingest import PromptLedger, survey_prompts
from synthgen.ledger.run_dir import FIRST_CONTACT_S, CorruptUnitError, RunDir
from synthgen.planning import FOREIGN_TOKENS, FlowStage, StageLedger
from synthgen.planning.hardware import resolve_cluster
from synthgen.prompts import PromptSource
from synthgen.prompts.sizes import bound_longest, measure_longest
from synthgen.records import Sampling, UnitCounts, add_counts, count_open_turns
from synthgen.runtime.disk import measure_disk, measure_units
from synthgen.runtime.framing import settle_framing
from synthgen.runtime.retries import list_kept, list_retries, read_kept
from synthgen.runtime.reuse import Taken, forecast_rows
from synthgen.runtime.target import bound_by_target
from synthgen.runtime.units import find_stale_units
from synthgen.stages.base import LLMStage, find_kind, prompt_parts

CALIBRATION = "calibration.json"
SAMPLE_PROMPTS = 1000
MOST_DAMAGED = 50
"""Damaged units that a plan passes over; each costs another look at the directory."""
SAMPLE_UNITS = 32
CHARS_PER_TOKEN = 4.0
"""English text in the vocabularies of current models; other languages take more tokens."""


def read_ledger(config: Config) -> dict[str, StageLedger]:
    """Return what is known of every stage of `config` before it runs, by stage name.

    Raises:
        ConfigError: the prompt source cannot be read.
    """
    run_dir = RunDir(config.run.dir, min(config.storage.retry_s, FIRST_CONTACT_S), reads_only=True)
    for _ in range(MOST_DAMAGED):
        said: list[str] = []
        try:
            return _read_ledger(run_dir, config, said)
        except CorruptUnitError as error:  # on an object store, whose files are not looked through beforehand
            said = []
            if not run_dir.pass_over(error):
                raise
            print(f"synthgen: {error}; a run makes it again", file=sys.stderr)
        finally:
            for note in said:
                print(f"synthgen: {note}", file=sys.stderr)
    raise ConfigError(
        f"run.dir={run_dir.url} holds more than {MOST_DAMAGED} damaged units: start the run, which makes them again, "
        "and plan what is left"
    )


def _read_ledger(run_dir: RunDir, config: Config, said: list[str]) -> dict[str, StageLedger]:
    """Return what `read_ledger` does; `said`: gets what a user should know."""
    config, framing = settle_framing(config, run_dir)
    stages = resolve_flow(load_flow(config))
    survey = survey_prompts(run_dir, config)
    if survey is not None:
        prompts, sample, notes = survey.ledger, survey.sample, survey.ledger.notes
    else:
        size = min(SAMPLE_PROMPTS, config.prompts.limit or SAMPLE_PROMPTS)
        source = PromptSource(replace(config.prompts, limit=size))
        sample, total = _sample_source(source, config.prompts.limit, size)
        full, rest = divmod(total or 0, config.run.unit_size)
        prompts = PromptLedger([config.run.unit_size] * full + ([rest] if rest else []), {})
        notes = source.notes
    rows, target = bound_by_target(run_dir, config, stages, prompts)
    said += [*notes, *filter(None, (framing, target))]
    tokens = _mean_characters(sample) / CHARS_PER_TOKEN
    open_turns = mean_open_turns(sample)
    longest = measure_longest(sample)
    calibration = read_calibration(run_dir, stages, config.cluster)
    ratios = read_speed_ratios(run_dir, config.cluster)
    common = {"open_turns": open_turns, **measure_disk(run_dir)}
    resolved = [stage.files.stage for stage in stages]
    prompts = replace(prompts, unit_rows=rows)
    return {
        stage.name: replace(
            _calibrate(ledger, calibration.get(stage.name)),
            **common,
            longest_prompt=bound_longest(longest, bound_answer(resolved, stage.files.stage)),
            flow=describe_stage(stage),
            speed_ratio=None if stage.name in calibration else ratios.get(stage.files.stage.model.id),
        )
        for stage, ledger in zip(stages, _stage_ledgers(run_dir, stages, prompts, tokens, config), strict=True)
    }


def describe_stage(stage: ResolvedStage) -> FlowStage:
    """Return what planning asks of a stage of the flow, of the user's own too."""
    one = stage.files.stage
    return FlowStage(
        model=one.model,
        inputs=tuple(one.inputs),
        kind=find_kind(one),
        sequences=one.sequences_per_prompt,
        max_tokens=getattr(one, "max_tokens", Sampling().most_tokens),
    )


@dataclass(frozen=True, slots=True)
class StageCalibration:
    """What some units of a stage measured: means per request and completion, and the speed of one replica.

    Attributes:
        fingerprint: of the stage; another one may write other lengths.
        input_tokens: of a request's prompt. output_tokens: of a completion.
        output_tokens_per_s: of one replica, all stages of its pool together.
        gpu: kind of GPU, empty on a CPU. gpus: per replica.
        speed_ratio: measured speed over the planned one, all stages of the pool together; None: none was planned.
    """

    model: str
    fingerprint: str
    requests: int
    completions: int
    input_tokens: float | None
    output_tokens: float | None
    output_tokens_per_s: float | None
    gpu: str
    gpus: int
    speed_ratio: float | None = None


def read_calibration(
    run_dir: RunDir, stages: Sequence[ResolvedStage], cluster: ClusterConfig
) -> dict[str, StageCalibration]:
    """Return what `synthgen calibrate` measured for these stages; the speed is left out on another kind of GPU."""
    entries = _read_entries(run_dir)
    current = {stage.name: stage.fingerprint for stage in stages}
    gpu = resolve_cluster(cluster).gpu.name if entries else ""
    return {
        name: entry if entry.gpu == gpu else replace(entry, output_tokens_per_s=None)
        for name, entry in entries.items()
        if current.get(name) == entry.fingerprint
    }


def read_speed_ratios(run_dir: RunDir, cluster: ClusterConfig) -> dict[str, tuple[int, float]]:
    """Return (GPUs of a replica, measured speed over the planned one) by model, as `calibrate` found it on such GPUs.

    It holds for the same model with other lengths or sampling; of another model it tells nothing (docs/planning.md).
    """
    entries = _read_entries(run_dir).values()
    gpu = resolve_cluster(cluster).gpu.name if entries else ""
    return {one.model: (one.gpus, one.speed_ratio) for one in entries if one.speed_ratio and one.gpu == gpu}


def _read_entries(run_dir: RunDir) -> dict[str, StageCalibration]:
    stored = run_dir.read_json(CALIBRATION, "stages") or {"stages": {}}
    try:
        return {name: StageCalibration(**entry) for name, entry in stored["stages"].items()}
    except (TypeError, AttributeError):  # another file under its name: as good as none
        return {}


def _calibrate(ledger: StageLedger, measured: StageCalibration | None) -> StageLedger:
    """Return a stage's ledger; what its own finished units have not measured is taken from the calibration."""
    if measured is None or ledger.output_tokens is not None:
        return ledger
    return replace(
        ledger,
        input_tokens=measured.input_tokens,
        output_tokens=measured.output_tokens,
        output_tokens_per_s=measured.output_tokens_per_s,
        per_replica=True,
    )


def _count_again(
    run_dir: RunDir, stages: Sequence[ResolvedStage], done: Mapping[str, set[int]], config: Config
) -> dict[str, dict[int, int]]:
    """Return how many prompts of a unit are asked again, by stage and unit; the others of it are kept."""
    files = [stage.files for stage in stages]
    found = list_retries(run_dir, files, done, config.run.retry_failed)
    again = {name: {unit: len(ask) for unit, ask in units.items()} for name, units in found.items()}
    for stage in stages:
        for unit in list_kept(run_dir, stage.files.directory):
            if unit not in done[stage.name] and (kept := read_kept(run_dir, stage.files.directory, unit)) is not None:
                again.setdefault(stage.name, {})[unit] = len(kept.ask)
    return again


def _stage_ledgers(
    run_dir: RunDir, stages: Sequence[ResolvedStage], prompts: PromptLedger, tokens: float, config: Config
) -> Iterator[StageLedger]:
    """Yield the ledger of every stage; what is made again upstream is made again downstream."""
    again: dict[str, set[int]] = {}
    rows = prompts.unit_rows
    done = {stage.name: {u for u in run_dir.committed(stage.files.directory) if u < len(rows)} for stage in stages}
    asked = _count_again(run_dir, stages, done, config)
    stale_units = {stage.name: set(find_stale_units(run_dir, stage, prompts)) for stage in stages}
    taken: dict[str, Taken] = {}
    if config.run.reuse:
        holds = {name: units - stale_units[name] for name, units in done.items()}
        prompts, taken = forecast_rows(config, run_dir, stages, prompts, holds)
        rows = prompts.unit_rows
    for stage in stages:
        stale = stale_units[stage.name]
        upstream = set().union(*(again.get(source, set()) for source in stage.files.inputs))
        # What lies there of another unit than the one that will be made: a run sets it aside.
        upstream |= {
            unit for source in stage.files.inputs if source in done for unit in done[stage.name] - done[source]
        }
        why = " and ".join(
            part
            for part in (_name_changes(prompts, stale, stage), "what it reads is made again" if upstream else "")
            if part
        )
        again[stage.name] = stale | upstream
        kept = {unit: ask for unit, ask in asked.get(stage.name, {}).items() if unit not in again[stage.name]}
        ledger = _stage_ledger(run_dir, stage, rows, tokens, again[stage.name], kept)
        found = taken.get(stage.name, Taken())
        yield replace(
            ledger,
            again=why if again[stage.name] & done[stage.name] else "",
            units_done=ledger.units_done + len(found.units),
            prompts_done=ledger.prompts_done + found.prompts.total(),
            taken=found.prompts.total(),
        )


def _name_changes(prompts: PromptLedger, stale: Set[int], stage: ResolvedStage) -> str:
    """Return which part of the prompts has changed in these units, of those that the stage reads."""
    changed = {part for unit in stale for parts in prompts.units[unit].former.values() for part in parts}
    named = [part for part in prompt_parts(stage.files.stage) if part in changed]
    return f"the {' and '.join(named)} of prompts changed" if named else ""


def _stage_ledger(
    run_dir: RunDir,
    stage: ResolvedStage,
    unit_rows: Sequence[int],
    tokens: float,
    stale: Set[int],
    asked: Mapping[int, int],
) -> StageLedger:
    """Return what is known of a stage; `asked`: by unit, its prompts that are asked again (the others are kept)."""
    committed = {unit for unit in run_dir.committed(stage.files.directory) if unit < len(unit_rows)}
    done = sorted(committed - stale)
    counts = [run_dir.read_counts(stage.files.directory, unit) for unit in done[:SAMPLE_UNITS]]
    total = add_counts(counts) if counts else UnitCounts()
    busy = total.ended_at - total.started_at
    good = total.rows - total.failed_rows - sum(total.reused.values())  # what other runs made was not measured here
    return StageLedger(
        units_total=len(unit_rows),
        units_done=len(set(done) - set(asked)),
        prompts_total=sum(unit_rows),
        prompts_done=sum(unit_rows[unit] - asked.get(unit, 0) for unit in {*done, *asked} if unit < len(unit_rows)),
        asked_again=sum(asked.values()),
        prompt_tokens=tokens,
        input_tokens=total.input_tokens / total.requests if total.requests else None,
        output_tokens=total.output_tokens / good if good > 0 else None,
        output_tokens_per_s=total.output_tokens / busy if busy > 0 and good > 0 else None,
        file_bytes=measure_units(run_dir, stage.files.directory, done, unit_rows),
    )


def _sample_source(source: PromptSource, limit: int | None, size: int) -> tuple[pa.Table, int | None]:
    """Return the first `size` prompts, and how many there are up to `limit`, or None where that takes reading all."""
    # Closed at once: a half-read source has reader threads, and the interpreter must not end under them.
    with contextlib.closing(source.tables(rows_per_table=size)) as tables:  # type: ignore[type-var]
        table = next(tables, None)
    if table is None:
        raise ConfigError(f"prompts.path={source.path} holds no usable prompt")
    if table.num_rows < size or limit == size:
        return table, table.num_rows
    path = source.config.path
    counted = _count_rows(Path(path)) if isinstance(path, str) else None
    return table, min(counted, limit) if counted and limit else counted or limit


def _count_rows(path: Path) -> int | None:
    if path.suffix == ".jsonl" and path.is_file():
        with open(path, "rb") as handle:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(1 << 20), b""))
    if path.suffix == ".parquet" and path.is_file():
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    return None


def bound_prompts(prompts: PromptLedger, stages: Sequence[ResolvedStage]) -> dict[str, int] | None:
    """Return the bytes of the longest prompt of a run, by stage; None: too many units lie in an object store to have
    been measured."""
    if not prompts.units or not all(unit.longest for unit in prompts.units):
        return None
    longest: dict[int, int] = {}
    for unit in prompts.units:
        for count, size in unit.longest.items():
            longest[count] = max(size, longest.get(count, 0))
    resolved = [stage.files.stage for stage in stages]
    return {stage.name: bound_longest(longest, bound_answer(resolved, stage.files.stage)) for stage in stages}


def bound_answer(stages: Sequence[LLMStage], reader: LLMStage) -> int:
    """Return the most tokens that `reader` sees an answer to an earlier turn as; 0: no stage answers such turns."""
    history = next((stage for stage in stages if stage.name == HISTORY), None)
    if history is None:
        return 0
    most: int = getattr(history, "max_tokens", Sampling().most_tokens)
    return most if history.model == reader.model else FOREIGN_TOKENS * most


def mean_open_turns(prompts: pa.Table) -> float:
    """Return how many turns of a prompt nobody answers, the last one not counted, on average."""
    found = [count_open_turns(turns) for turns in prompts["messages"].to_pylist()]
    return sum(found) / max(1, len(found))


def _mean_characters(prompts: pa.Table) -> float:
    if not prompts.num_rows:
        return 0.0
    turns = pc.list_flatten(prompts["messages"])
    contents = pc.struct_field(turns, "content")
    characters: int = pc.sum(pc.utf8_length(contents)).as_py() or 0
    for name in ("tools", "calls"):
        if name in prompts.column_names:
            characters += pc.sum(pc.utf8_length(prompts[name])).as_py() or 0
    return characters / max(1, int(prompts.num_rows))
