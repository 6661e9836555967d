"""Completions that exist already, on their way into the ledger: a file in, units out, before anything is asked.

The whole file is read once, and again when it has changed; its completions are held in memory meanwhile. Units whose
completions are as they were stay; the others are committed anew, and what was made from them goes.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from synthgen.config import Config, RemovedPrompts
from synthgen.errors import ConfigError
from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import PromptLedger
from synthgen.ledger.run_dir import PROMPTS, CorruptUnitError, RunDir, digests_of
from synthgen.prompts import PromptSource
from synthgen.prompts.completions import GivenCompletion, read_completions
from synthgen.prompts.unusable import UnusableRowError
from synthgen.records import UnitCounts, list_conversations, list_tools
from synthgen.stages.base import prompt_parts
from synthgen.stages.given import GivenStage, RecordedStage

logger = logging.getLogger(__name__)


def commit_given(run_dir: RunDir, config: Config, stages: Sequence[ResolvedStage], prompts: PromptLedger) -> list[str]:
    """Commit the units of all stages of given completions, and return what a user should know, a line each.

    Raises:
        ConfigError: a file cannot be read, holds no completions, or none for the run's prompts.
    """
    notes: list[str] = []
    for stage in stages:
        if isinstance(stage.files.stage, GivenStage):
            notes += _commit(run_dir, config, stage, stages, prompts)
    return notes


def _commit(
    run_dir: RunDir, config: Config, stage: ResolvedStage, stages: Sequence[ResolvedStage], prompts: PromptLedger
) -> list[str]:
    generate = stage.files.stage
    assert isinstance(generate, GivenStage)
    recorded = [
        other
        for other in stages
        if isinstance(other.files.stage, RecordedStage) and other.files.stage.generator == generate.generator
    ]
    source = _open_source(config, generate)
    state_path = f"given/{stage.name}.json"
    now = {"source": source.fingerprint(), "units": [unit.file for unit in prompts.units]}
    mine = [stage, *recorded]
    every = set(range(len(prompts.unit_rows)))
    there = all(every <= run_dir.committed(one.files.directory) for one in mine)
    if there and run_dir.read_json(state_path, "source", "units") == now:
        return []
    given, lost = _read(source, generate, _find_places(run_dir, source, len(prompts.unit_rows)))
    if not given:
        raise ConfigError(
            f"generators.{generate.generator}.path={source.path} holds no completion of the run's prompts; "
            f"give prompts.path={source.path} too, or a file that holds some"
        )
    for unit in sorted(every):
        _commit_unit(run_dir, mine, stages, unit, given, prompts)
    run_dir.write_json(state_path, now)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items()))
    return [f"{source.path}: rows without a completion for this run: {reasons}"] if lost else []


def _open_source(config: Config, generate: GivenStage) -> PromptSource:
    given = replace(
        config.prompts,
        path=generate.config.path,
        limit=None,
        exclude=[],
        removed=RemovedPrompts.keep,
        max_bad_fraction=1.0,
    )
    return PromptSource(given, f"generators.{generate.generator}.path")


def _find_places(run_dir: RunDir, source: PromptSource, units: int) -> dict[bytes, str]:
    """Return the id of each prompt of the run by what counts as the same prompt."""
    places: dict[bytes, str] = {}
    for unit in range(units):
        table = run_dir.read_unit(PROMPTS, unit)
        rows = zip(table["prompt_id"].to_pylist(), list_conversations(table), list_tools(table), strict=True)
        for prompt_id, messages, tools in rows:
            places[source.twin_key(messages, tools)] = prompt_id
    return places


def _read(
    source: PromptSource, generate: GivenStage, places: dict[bytes, str]
) -> tuple[dict[str, list[GivenCompletion]], Counter[str]]:
    """Return the completions by prompt, equal texts of a prompt once, and why rows gave none."""
    found: defaultdict[str, dict[str, GivenCompletion]] = defaultdict(dict)
    lost: Counter[str] = Counter()
    for row, conversation in source.conversations():
        prompt_id = places.get(source.twin_key(conversation.messages, conversation.tools))
        if prompt_id is None:
            lost["not_a_prompt_of_the_run"] += 1
            continue
        try:
            completions = read_completions(row.values, generate.config.column, generate.config.model_column)
        except UnusableRowError as error:
            lost[error.reason] += 1
            continue
        for one in completions:
            found[prompt_id].setdefault(one.text, one)
    return {prompt_id: list(texts.values()) for prompt_id, texts in found.items()}, lost


def _commit_unit(
    run_dir: RunDir,
    mine: Sequence[ResolvedStage],
    stages: Sequence[ResolvedStage],
    unit: int,
    given: dict[str, list[GivenCompletion]],
    prompts: PromptLedger,
) -> None:
    tables: dict[str, pa.Table] = {PROMPTS: run_dir.read_unit(PROMPTS, unit)}
    for stage in mine:
        maker: Any = stage.files.stage
        table = maker.fill(tables[PROMPTS], given)
        inputs = digests_of({name: tables[name] for name in stage.files.inputs})
        directory = stage.files.directory
        if not _is_there(run_dir, stage, unit, table, inputs, prompts):
            _discard(run_dir, stage, stages, unit)
            run_dir.commit_unit(directory, unit, table, UnitCounts(rows=table.num_rows), inputs)
        tables[stage.name] = run_dir.read_unit(directory, unit)


def _is_there(
    run_dir: RunDir,
    stage: ResolvedStage,
    unit: int,
    table: pa.Table,
    inputs: dict[str, str],
    prompts: PromptLedger,
) -> bool:
    """Whether a unit holds the same and may stay; prompts may have changed since in what the stage does not read."""
    directory = stage.files.directory
    try:
        stored = run_dir.read_unit(directory, unit)
        made_of = run_dir.read_inputs(directory, unit)
    except (CorruptUnitError, FileNotFoundError):
        return False
    parts = prompt_parts(stage.files.stage)
    fits = all(
        digest == inputs.get(name) or (name == PROMPTS and prompts.accepts(unit, digest, parts))
        for name, digest in made_of.items()
    )
    return bool(stored.replace_schema_metadata(None).equals(table)) and made_of.keys() == inputs.keys() and fits


def _discard(run_dir: RunDir, stage: ResolvedStage, stages: Sequence[ResolvedStage], unit: int) -> None:
    """Take a unit out of the ledger, and what was made from it."""
    for other in _downstream(stage, stages):
        if unit in run_dir.committed(other.files.directory):
            logger.info("%s unit %d is made again: its completions have changed", other.name, unit)
            run_dir.discard(other.files.directory, unit)


def _downstream(stage: ResolvedStage, stages: Sequence[ResolvedStage]) -> Iterator[ResolvedStage]:
    changed = {stage.name}
    yield stage
    for other in stages:
        if changed.intersection(other.files.inputs) and other.name not in changed:
            changed.add(other.name)
            yield other
