"""Blocks: the rows of some consecutive units, by config and split. Pure functions; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config import Config
from synthgen.config.public_names import name_public, public_location
from synthgen.config.stage_names import HISTORY, Kind, name_scores
from synthgen.export.calls import spell_in_turns, take_calls
from synthgen.export.formats import FORMATS, TAKE_CALLS
from synthgen.export.kept import add_columns
from synthgen.export.lengths import Lengths, sum_lengths, without_length
from synthgen.export.thoughts import put_inline, take_thoughts
from synthgen.pairs import Estimates, Fit, PairCounts, UnitPairs, fit_unit, list_thresholds, pair_unit
from synthgen.pairs.counts import BEYOND_TARGET
from synthgen.pairs.index import combine
from synthgen.records import Tables, concat_units, fill_turns

HASH_DIGITS = 8
"""How many of a prompt id's last hexadecimal digits decide its split."""

PairKey = tuple[str, int]
"""A pair: its prompt's id and its number within the prompt."""


@dataclass(frozen=True, slots=True)
class Block:
    """The rows that a group of units gives to the data set, sorted by prompt_id.

    Attributes:
        tables: table by (config, split). Every block of a run has the same keys, whatever rows it has.
        counts: what became of the group's prompts.
        before, after: lengths of the pairs without the settings on length, and as they are made.
    """

    tables: dict[tuple[str, str], pa.Table]
    counts: PairCounts
    before: Lengths
    after: Lengths


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
    kept: Mapping[str, pa.DataType] | None = None,
    beyond: Collection[PairKey] = (),
) -> Block:
    """Return the rows of a group of units in every config of the data set, split by prompt.

    Args:
        group: per unit the tables `prompts` and those that `made` names.
        made: names of the tables of each kind (`tables_by_kind`).
        config: of it `pairs`, `scorers`, `export`, `judge.expected` and `run.seed` matter.
        fit: what was estimated on the run's first unit (`fit_first`).
        estimates: of the run's first part (`pair_unit`).
        kept: types of the prompts' columns that become columns (`find_types`).
        beyond: pairs that are left out because they come after the last of `pairs.target`.
    """
    made_rows = leave_out(pair_group(group, made, config, fit, estimates), beyond)
    rows = put_inline(made_rows, config.export)
    free, before = without_length(config.pairs), Lengths()
    if free is not None:
        loose = replace(config, pairs=free)
        before = sum_lengths(pair_group(group, made, loose, replace(fit, length_slope=0.0), estimates).pairs)
    tables = {}
    for split, part in split_rows(rows, config.export.test_fraction).items():
        tables[("default", split)] = part.pairs
        tables[("kto", split)] = part.kto
        tables[("generations", split)] = part.generations
        spelt = spell_in_turns(part) if config.export.formats else part
        for name in config.export.formats:
            tables[(name, split)] = FORMATS[name](part if name in TAKE_CALLS else spelt, config)
    if kept:
        prompts = concat_units(unit["prompts"] for unit in group)
        tables = {key: add_columns(table, prompts, kept) for key, table in tables.items()}
    return Block(tables, rows.counts, before, sum_lengths(rows.pairs))


def pair_group(
    group: Sequence[Tables],
    made: Mapping[Kind, Sequence[str]],
    config: Config,
    fit: Fit,
    estimates: Estimates | None = None,
) -> UnitPairs:
    """Return the pairs and rows of a group of units. See `build_block` for the arguments."""
    prompts, generations, judgements, scores = _gather(group, made, config)
    return pair_unit(
        prompts,
        take_calls(take_thoughts(generations, config.export), prompts),
        judgements,
        config.pairs,
        use_expected=config.judge.expected,
        run_seed=config.run.seed,
        scores=scores,
        thresholds=list_thresholds(config),
        fit=fit,
        estimates=estimates,
    )


def leave_out(rows: UnitPairs, beyond: Collection[PairKey]) -> UnitPairs:
    """Return the rows without some pairs; a prompt that has none left counts as `beyond_target`."""
    if not beyond:
        return rows
    ids, numbers = (rows.pairs[name].to_pylist() for name in ("prompt_id", "pair_index"))
    kept = [key not in beyond for key in zip(ids, numbers, strict=True)]
    lost = len(set(ids) - {prompt_id for prompt_id, keep in zip(ids, kept, strict=True) if keep})
    counts = replace(
        rows.counts,
        pairs=sum(kept),
        prompts_with_pairs=rows.counts.prompts_with_pairs - lost,
        dropped={**rows.counts.dropped, **({BEYOND_TARGET: lost} if lost else {})},
    )
    return replace(rows, pairs=rows.pairs.filter(pa.array(kept, pa.bool_())), counts=counts)


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
        concat_units(_read_prompts(unit) for unit in group),
        name_models(concat_units(unit[name] for unit in group for name in made["generations"]), "model", config),
        name_models(concat_units(unit[name] for unit in group for name in judges), "judge_model", config)
        if judges
        else None,
        _read_scorers(group, made, config),
    )


def _read_prompts(unit: Tables) -> pa.Table:
    """Return a unit's prompts, with the answers to their earlier turns where the run has such."""
    return fill_turns(unit["prompts"], unit[HISTORY]) if HISTORY in unit else unit["prompts"]


def name_models(table: pa.Table, column: str, config: Config) -> pa.Table:
    """Return a table whose `column` has the public names of models; units hold their ids, which may be local paths."""
    models = [*(one.model for one in config.generators.values()), config.judge.model, config.task.model]
    names = {model.id: name_public(model) for model in reversed(models)}
    found = combine(pc.unique(table[column]))
    written = [one if one is None else names.get(one) or public_location(one) for one in found.to_pylist()]
    if written == found.to_pylist():
        return table
    index = pc.index_in(table[column], value_set=found)
    public = pa.array(written, pa.string()).take(combine(index))
    return table.set_column(table.column_names.index(column), table.schema.field(column), public)


def _read_scorers(group: Sequence[Tables], made: Mapping[Kind, Sequence[str]], config: Config) -> dict[str, pa.Table]:
    """A stage of one's own that no entry of `scorers` names is a scorer of its stage's name."""
    names = {name_scores(scorer): scorer for scorer in config.scorers}
    return {names.get(name, name): concat_units(unit[name] for unit in group) for name in made.get("scores", ())}


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
