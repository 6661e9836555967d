"""Blocks: the rows of some consecutive units, by config and split. Pure functions; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config
from synthgen.config.stage_names import Kind, name_scores
from synthgen.export.formats import FORMATS
from synthgen.export.thoughts import put_inline, take_thoughts
from synthgen.pairs import Estimates, Fit, PairCounts, UnitPairs, fit_unit, list_thresholds, pair_unit
from synthgen.records import Tables, concat_units

HASH_DIGITS = 8
"""How many of a prompt id's last hexadecimal digits decide its split."""


@dataclass(frozen=True, slots=True)
class Block:
    """The rows that a group of units gives to the data set, sorted by prompt_id.

    Attributes:
        tables: table by (config, split). Every block of a run has the same keys, whatever rows it has.
        counts: what became of the group's prompts.
    """

    tables: dict[tuple[str, str], pa.Table]
    counts: PairCounts


def group_units(tables: Iterable[Tables], made: Mapping[Kind, Sequence[str]], block_mib: int) -> Iterator[list[Tables]]:
    """Yield consecutive units in groups whose `generations` rows take about `block_mib` MiB in memory.

    A group is closed once it has reached that size, counted from the first unit: units that are added later never
    change the groups that were full before.
    """
    group: list[Tables] = []
    size = 0.0
    for unit in tables:
        group.append(unit)
        size += _estimate_bytes(unit, made)
        if size >= block_mib * 2**20:
            yield group
            group, size = [], 0.0
    if group:
        yield group


def build_block(
    group: Sequence[Tables],
    made: Mapping[Kind, Sequence[str]],
    config: Config,
    fit: Fit,
    estimates: Estimates | None = None,
) -> Block:
    """Return the rows of a group of units in every config of the data set, split by prompt.

    Args:
        group: per unit the tables `prompts` and those that `made` names.
        made: names of the tables of each kind (`tables_by_kind`).
        config: of it `pairs`, `scorers`, `export`, `judge.expected` and `run.seed` matter.
        fit: what was estimated on the run's first unit (`fit_first`).
        estimates: of the run's first part (`pair_unit`).
    """
    prompts, generations, judgements, scores = _gather(group, made, config)
    rows = pair_unit(
        prompts,
        take_thoughts(generations, config.export),
        judgements,
        config.pairs,
        use_expected=config.judge.expected,
        run_seed=config.run.seed,
        scores=scores,
        thresholds=list_thresholds(config),
        fit=fit,
        estimates=estimates,
    )
    rows = put_inline(rows, config.export)
    tables = {}
    for split, part in split_rows(rows, config.export.test_fraction).items():
        tables[("default", split)] = part.pairs
        tables[("kto", split)] = part.kto
        tables[("generations", split)] = part.generations
        for name in config.export.formats:
            tables[(name, split)] = FORMATS[name](part, config)
    return Block(tables, rows.counts)


def fit_first(
    unit: Tables, made: Mapping[Kind, Sequence[str]], config: Config, estimates: Estimates | None = None
) -> Fit:
    """Return what scores need to know beforehand; `unit`: the tables of the run's first unit."""
    prompts, generations, judgements, scores = _gather([unit], made, config)
    use_expected = config.judge.expected
    return fit_unit(
        prompts, generations, judgements, config.pairs, use_expected=use_expected, scores=scores, estimates=estimates
    )


def _gather(
    group: Sequence[Tables], made: Mapping[Kind, Sequence[str]], config: Config
) -> tuple[pa.Table, pa.Table, pa.Table | None, dict[str, pa.Table]]:
    """Return the group's prompts, completions, judgements (None without a judge) and other scores by scorer."""
    judges = made.get("judgements", ())
    return (
        pa.concat_tables([unit["prompts"] for unit in group]),
        concat_units(unit[name] for unit in group for name in made["generations"]),
        concat_units(unit[name] for unit in group for name in judges) if judges else None,
        _read_scorers(group, made, config),
    )


def _read_scorers(group: Sequence[Tables], made: Mapping[Kind, Sequence[str]], config: Config) -> dict[str, pa.Table]:
    names = {name_scores(scorer): scorer for scorer in config.scorers}
    tables = [name for name in made.get("scores", ()) if name in names]
    return {names[name]: concat_units(unit[name] for unit in group) for name in tables}


def split_rows(made: UnitPairs, test_fraction: float) -> dict[str, UnitPairs]:
    """Return the rows by split (`test` only where it is asked for). A prompt's rows are all on one side, always the
    same one; a larger fraction only moves prompts from train to test."""
    if test_fraction <= 0:
        return {"train": made}
    parts: dict[str, dict[str, pa.Table]] = {"train": {}, "test": {}}
    for name in ("pairs", "kto", "generations"):
        table: pa.Table = getattr(made, name)
        test = is_test(table["prompt_id"], test_fraction)
        parts["test"][name] = table.filter(test)
        parts["train"][name] = table.filter(pc.invert(test))
    return {split: UnitPairs(**tables, counts=made.counts) for split, tables in parts.items()}


def is_test(prompt_ids: pa.ChunkedArray, test_fraction: float) -> pa.ChunkedArray:
    """Return for each prompt id whether its rows are in the test split."""
    # Hexadecimal numbers of equal length compare as texts do; "g" is above all of them.
    limit = f"{int(test_fraction * 16**HASH_DIGITS):0{HASH_DIGITS}x}" if test_fraction < 1 else "g"
    return pc.less(pc.utf8_slice_codeunits(prompt_ids, -HASH_DIGITS), limit)


def _estimate_bytes(unit: Tables, made: Mapping[Kind, Sequence[str]]) -> float:
    """The size of a unit's `generations` rows, in which each completion repeats its prompt."""
    prompts = unit["prompts"]
    completions = [unit[name] for name in made["generations"]]
    judgements = sum(unit[name].nbytes for kind in ("judgements", "scores") for name in made.get(kind, ()))
    repeats = sum(table.num_rows for table in completions) / max(1, prompts.num_rows)
    size: float = prompts.nbytes * repeats + sum(table.nbytes for table in completions) + judgements
    return size
