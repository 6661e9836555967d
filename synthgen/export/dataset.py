"""The whole export: units in, `<run.dir>/dataset/` out, a few blocks of rows in memory at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.config import Config, ExportConfig
from synthgen.config.scorers import list_prompt_scorers, list_recorded, list_scorers
from synthgen.config.stage_names import Kind
from synthgen.errors import ConfigError
from synthgen.export.blocks import Block, PairKey, build_block, fit_first, group_units
from synthgen.export.calls import put_in_turns, spell_sample
from synthgen.export.dataset_info import DATASET_INFO, make_dataset_info
from synthgen.export.estimates import estimate_run
from synthgen.export.features import dataset_configs
from synthgen.export.files import ROOT, ExportedFile
from synthgen.export.formats import FORMATS, select_columns
from synthgen.export.kept import check_names, find_types
from synthgen.export.labels import Labels
from synthgen.export.lengths import Lengths, describe_lengths
from synthgen.export.parts import Parts
from synthgen.export.prefix import Prefix
from synthgen.ledger.read_ahead import read_ahead
from synthgen.ledger.storage import Storage
from synthgen.pairs import Estimates, Fit, PairCounts, needs_fit
from synthgen.records import Tables
from synthgen.trust.scorers import ScorerStats

MAX_SHARD_MIB = 1024
"""Arrow's lists and strings address 2 GiB per column; a shard stays well below."""

MARGIN_BIN = 0.25
"""Width of the bins of the margin histogram, in points of score."""

BLOCK_MIB = 32
"""Rough size of what is paired and written at a time, in memory. Of 16 to 256 MiB this was fastest (caches, and memory
that is used again), and peak memory is some twenty times of it; see docs/performance.md."""

BUILDERS = 2
"""Blocks that are built at a time, while the one before them is written."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and what the report and the card say of it.

    Attributes:
        counts: what became of the prompts.
        files: all files of the data set but its card, its pictures and `dataset_info.json`.
        schemas: Arrow schema by config.
        sample_pair: a row of the default config, or None where no pair was made.
        margins: number of pairs by bin of `score_margin`; bin i starts at i × MARGIN_BIN.
        scorers: what the scorers say and how far they agree; empty where the judge is the only one.
        fit: what scores were put on one scale by.
        labels: what is said of the labels (synthgen.export.labels).
        lengths: of the pairs' sides (synthgen.export.lengths).
    """

    counts: PairCounts
    files: tuple[ExportedFile, ...]
    schemas: dict[str, pa.Schema]
    sample_pair: dict[str, Any] | None
    margins: dict[int, int]
    scorers: dict[str, Any] = field(default_factory=dict)
    fit: Fit = field(default_factory=Fit)
    labels: dict[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pairs(self) -> dict[str, Any]:
        """The report's `pairs`: prompts == prompts_with_pairs + ties + sum of dropped_by_reason."""
        return {
            "made": self.counts.pairs,
            "prompts": self.counts.prompts,
            "prompts_with_pairs": self.counts.prompts_with_pairs,
            "ties": self.counts.ties,
            "dropped_by_reason": dict(self.counts.dropped),
        }

    @property
    def report(self) -> dict[str, Any]:
        """What the export adds to the report: rows per config and split, the histogram of margins, a sample pair."""
        rows: dict[str, Counter[str]] = {name: Counter() for name in self.schemas}
        for file in self.files:
            rows[file.config][file.split] += file.rows
        lowest = min([0, *self.margins])  # below 0 with by_generator alone
        bins = range(lowest, max(self.margins, default=-1) + 1)
        return {
            "dataset": {name: dict(splits) for name, splits in rows.items()},
            "histograms": {
                "margins": {
                    "edges": [index * MARGIN_BIN for index in range(lowest, lowest + len(bins) + 1)],
                    "counts": [self.margins.get(index, 0) for index in bins],
                }
            },
            "sample_pair": self.sample_pair,
            "labels": self.labels,
            "lengths": self.lengths,
            **self.scorers,
            **({"score_fit": asdict(self.fit)} if self.fit != Fit() else {}),
        }

    @property
    def dataset(self) -> dict[str, Any]:
        """The `configs` and `dataset_info` of the card's YAML header."""
        return dataset_configs(self.files, self.schemas)


def check_export(config: ExportConfig) -> None:
    """Raise ConfigError for export settings that cannot work."""
    unknown = [name for name in config.formats if name not in FORMATS]
    if unknown:
        raise ConfigError(f"export.formats={unknown} are unknown; there are {', '.join(FORMATS)}")
    if not 0 <= config.test_fraction < 1:
        raise ConfigError(f"export.test_fraction={config.test_fraction} must be at least 0 and below 1")
    if not 1 <= config.shard_mib <= MAX_SHARD_MIB:
        raise ConfigError(f"export.shard_mib={config.shard_mib} must be between 1 and {MAX_SHARD_MIB}")
    check_names(config.keep_columns)


def export_dataset(
    storage: Storage,
    units: Sequence[int],
    read_tables: Callable[[int], Tables],
    made: Mapping[Kind, Sequence[str]],
    config: Config,
) -> ExportResult:
    """Write the data set of the committed `units`.

    Args:
        storage: where `dataset/` is made, aside from an earlier one (`stage_export`).
        units: numbers of all units, in order.
        read_tables: gives a unit's tables: `prompts` and those that `made` names. Called from several threads.
        made: names of the tables of each kind, in the order of the flow (`tables_by_kind`).
        config: the run's configuration.
    """
    check_export(config.export)
    if not made.get("generations"):
        raise ConfigError(
            f"pipeline={config.pipeline}: none of its stages writes completions (kind = 'generations'); "
            "add one, or give its Flow an export of its own (docs/extending.md)"
        )
    counts, margins, schemas = PairCounts(), Counter[int](), dict[str, pa.Schema]()
    sample: dict[str, Any] | None = None
    stats = ScorerStats(list_prompt_scorers(config))
    shard, shard_mib = 0, 0.0
    before, after = Lengths(), Lengths()
    labels = Labels(estimate_run(read_tables, units, made, config), config)
    keep = config.export.keep_columns
    kept = find_types(keep, (tables["prompts"] for tables in read_ahead(read_tables, units))) if keep else {}
    with Parts(storage) as parts:
        fitted = needs_fit(config.pairs, list_scorers(config))
        fit = fit_first(read_tables(units[0]), made, config, labels.estimates) if fitted else Fit()
        beyond: frozenset[PairKey] = frozenset()
        if config.pairs.target is not None:
            prefix = Prefix(read_tables, made, config)
            prefix.reach(config.pairs.target, len(units))
            beyond = prefix.list_beyond(config.pairs.target)
        for block in _build_blocks(read_tables, units, made, config, fit, labels.estimates, kept, beyond):
            if shard_mib >= config.export.shard_mib:
                shard, shard_mib = shard + 1, 0.0
            shard_mib += _measure_mib(block)
            counts += block.counts
            before, after = before + block.before, after + block.after
            margins.update(_count_margins(block.tables))
            labels.count(block.tables)
            for (name, _), table in block.tables.items():
                if name == "generations":
                    stats.add(table)
            pairs = block.tables["default", "train"]
            if sample is None and pairs.num_rows:
                sample = spell_sample(pairs.slice(0, 1).to_pylist()[0])
            tables = {
                key: put_in_turns(select_columns(key[0], table, config.export)) for key, table in block.tables.items()
            }
            schemas = schemas or {name: table.schema for (name, _), table in tables.items()}
            parts.add(shard, tables)
            del block, pairs, tables  # or two would be in memory while the next one is awaited
        files = parts.write(("default", "kto", "generations", *FORMATS))
    lengths = describe_lengths(before, after, config.pairs)
    scorers = stats.describe(config.run.seed, list_recorded(config))
    result = ExportResult(counts, files, schemas, sample, dict(margins), scorers, fit, labels.report(), lengths)
    if "sharegpt" in config.export.formats:
        storage.replace(f"{ROOT}/{DATASET_INFO}", make_dataset_info(result.dataset))
    elif storage.exists(f"{ROOT}/{DATASET_INFO}"):
        storage.delete(f"{ROOT}/{DATASET_INFO}")
    return result


def _build_blocks(
    read_tables: Callable[[int], Tables],
    units: Sequence[int],
    made: Mapping[Kind, Sequence[str]],
    config: Config,
    fit: Fit,
    estimates: Estimates,
    kept: Mapping[str, pa.DataType],
    beyond: Collection[PairKey],
) -> Iterator[Block]:
    """Yield the blocks in order; BUILDERS at a time are made in threads, since Arrow works outside of Python's lock."""
    waiting: deque[Future[Block]] = deque()
    block_mib = min(BLOCK_MIB, config.export.shard_mib)
    with ThreadPoolExecutor(BUILDERS) as builders:
        for group in group_units(read_ahead(read_tables, units), made, block_mib):
            if len(waiting) == BUILDERS:
                yield waiting.popleft().result()
            waiting.append(builders.submit(build_block, group, made, config, fit, estimates, kept, beyond))
            del group
        while waiting:
            yield waiting.popleft().result()


def _measure_mib(block: Block) -> float:
    """Return the size of a block's largest config, which is what a shard is measured by."""
    sizes: list[int] = [table.nbytes for (name, _), table in block.tables.items() if name == "generations"]
    return sum(sizes) / 2**20


def _count_margins(tables: dict[tuple[str, str], pa.Table]) -> Counter[int]:
    columns = [table["score_margin"].drop_null() for (name, _), table in tables.items() if name == "default"]
    margins = np.concatenate([column.to_numpy() for column in columns])
    return Counter(np.floor(margins / MARGIN_BIN).astype(int).tolist())
