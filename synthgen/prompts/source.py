"""The prompts of a run: every source row by row, duplicates collapsed, as tables of PROMPTS_SCHEMA."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.prompts.columns import Conversation, choose_columns, read_conversation
from synthgen.prompts.decontaminate import OverlapIndex, read_user_text
from synthgen.prompts.locate import locate_sources
from synthgen.prompts.messages import UnusableRowError
from synthgen.prompts.rows import BadRow, Row, RowSource, clip
from synthgen.records import PROMPTS_SCHEMA, SCHEMA_VERSION, canonical_json, make_prompt_id, stable_hex

SAMPLE_ROWS = 1000  # rows of a source whose column names are taken for its columns
MAX_LISTED = 10_000  # bad and excluded rows that are listed; all are counted


@dataclass(slots=True)
class PromptStats:
    """What became of the rows: rows_read = kept + duplicates + excluded + sum(bad.values())."""

    rows_read: int = 0
    kept: int = 0
    duplicates: int = 0
    excluded: int = 0  # prompts that overlap with `prompts.exclude`
    bad: dict[str, int] = field(default_factory=dict)  # reason → rows


PromptRow = tuple[str, Conversation, str, int]
"""One prompt: its id, the conversation, the name of its source and its 0-based row there."""


class PromptSource:
    """The prompts that a configuration names.

    Attributes:
        stats: counts of the rows read so far by the last iteration of `tables`.
        bad_rows: the rows that gave no prompt, in order; the first MAX_LISTED of them.
        excluded_rows: the same for prompts that overlap with `prompts.exclude`.
        excluded_known: ids of those of them that were given all the same, because a run holds them already.
    """

    def __init__(self, config: PromptsConfig, key: str = "prompts.path") -> None:
        if config.limit is not None and config.limit < 1:
            raise ConfigError(f"prompts.limit={config.limit} must be at least 1, or null for all prompts")
        if not 0 <= config.max_bad_fraction <= 1:
            raise ConfigError(f"prompts.max_bad_fraction={config.max_bad_fraction} must be between 0 and 1")
        self.config = config
        self._key = key
        self.stats = PromptStats()
        self.bad_rows: list[BadRow] = []
        self.excluded_rows: list[BadRow] = []
        self.excluded_known: list[str] = []

    @cached_property
    def _sources(self) -> list[RowSource]:
        return locate_sources(self.config, self._key)

    @cached_property
    def _excluded(self) -> list[PromptSource]:
        return [PromptSource(PromptsConfig(path=path), "prompts.exclude") for path in self.config.exclude]

    def fingerprint(self) -> str:
        """Return the identity of the rows that `tables` gives: contents (files by hash, Hub data sets by commit) and
        the configuration that picks from them. Raises ConfigError for a source that is not there."""
        picked = asdict(self.config)
        for key in ("path", "config", "split", "revision", "exclude", "max_bad_fraction", "removed"):
            del picked[key]  # in the identities, or without influence on the rows
        identities = [source.identity() for source in self._sources]
        return stable_hex(SCHEMA_VERSION, picked, identities, [other.fingerprint() for other in self._excluded])

    def tables(self, rows_per_table: int) -> Iterator[pa.Table]:
        """Yield tables of PROMPTS_SCHEMA, each of `rows_per_table` rows but the last, in the order of the source.

        The first of equal conversations is kept. Memory stays flat but for one hash per prompt.

        Raises:
            ConfigError: a source cannot be read or has no prompt, a column is missing, or more than
                `prompts.max_bad_fraction` of the rows are bad (known at the end, before which tables were given).
        """
        rows = self.prompts()
        while batch := list(itertools.islice(rows, rows_per_table)):
            yield make_table(batch)

    def prompts(self, known: Container[bytes] = frozenset()) -> Iterator[PromptRow]:
        """Yield every prompt that is kept, as `tables` does.

        Args:
            known: ids, as bytes, of prompts that are given even where they overlap with `prompts.exclude`; those that
                do are listed in `excluded_known`, and count as excluded.
        """
        self.stats, self.bad_rows, self.excluded_rows, self.excluded_known = PromptStats(), [], [], []
        yield from self._iterate_prompts(known)
        self._check_stats()

    def _iterate_prompts(self, known: Container[bytes]) -> Iterator[PromptRow]:
        overlap = OverlapIndex(text for other in self._excluded for text in other._iterate_user_texts())
        seen: set[bytes] = set()
        for source, row, conversation in self._iterate_conversations():
            prompt_id = make_prompt_id(conversation.messages)
            key = bytes.fromhex(prompt_id)
            if key in seen:
                self.stats.duplicates += 1
                continue
            seen.add(key)
            text = read_user_text(conversation.messages)
            if text in overlap:
                self.stats.excluded += 1
                bad = BadRow(source, row.line, "contaminated", "shares 13 words with prompts.exclude", clip(text))
                _append(self.excluded_rows, bad)
                if key in known:
                    self.excluded_known.append(prompt_id)
                    yield prompt_id, conversation, source, row.index
                continue
            self.stats.kept += 1
            yield prompt_id, conversation, source, row.index
            if self.stats.kept == self.config.limit:
                return

    def _iterate_user_texts(self) -> Iterator[str]:
        for table in self.tables(SAMPLE_ROWS):
            messages: list[Any] = table["messages"].to_pylist()
            yield from map(read_user_text, messages)

    def _iterate_conversations(self) -> Iterator[tuple[str, Row, Conversation]]:
        for source in self._sources:
            rows = source.rows()
            sample = list(itertools.islice(rows, SAMPLE_ROWS))
            good = [row.values for row in sample if isinstance(row, Row)]
            columns = choose_columns(self.config, good, source.name) if good else None
            for row in itertools.chain(sample, rows):
                self.stats.rows_read += 1
                if isinstance(row, BadRow):
                    self._add_bad(row)
                    continue
                columns = columns or choose_columns(self.config, [row.values], source.name)
                try:
                    yield source.name, row, read_conversation(row.values, columns)
                except UnusableRowError as error:
                    self._add_bad(BadRow(source.name, row.line, error.reason, str(error), _show_values(row)))

    def _add_bad(self, row: BadRow) -> None:
        self.stats.bad[row.reason] = self.stats.bad.get(row.reason, 0) + 1
        _append(self.bad_rows, row)

    def _check_stats(self) -> None:
        bad = sum(self.stats.bad.values())
        path = f"{self._key}={self.config.path}"
        if not self.stats.rows_read:
            raise ConfigError(f"{path} is empty; give a file with at least one prompt")
        if bad > self.config.max_bad_fraction * self.stats.rows_read:
            first = self.bad_rows[0]
            mend = math.ceil(100 * bad / self.stats.rows_read) / 100
            raise ConfigError(
                f"{path}: {bad} of {self.stats.rows_read} rows are bad, more than "
                f"prompts.max_bad_fraction={self.config.max_bad_fraction}; the first is line {first.line} of "
                f"{first.source} ({first.message}); mend the file or set prompts.max_bad_fraction={mend}"
            )
        if not self.stats.kept:
            raise ConfigError(
                f"{path} gives no prompt: of {self.stats.rows_read} rows {bad} are bad and "
                f"{self.stats.excluded} overlap with prompts.exclude"
            )


def _show_values(row: Row) -> str:
    try:
        return clip(canonical_json(dict(row.values)))
    except RecursionError:
        return ""


def _append(rows: list[BadRow], row: BadRow) -> None:
    if len(rows) < MAX_LISTED:
        rows.append(row)


def make_table(batch: Sequence[PromptRow]) -> pa.Table:
    """Return prompts as a table of PROMPTS_SCHEMA, in their order."""
    columns: dict[str, list[Any]] = {
        "prompt_id": [prompt_id for prompt_id, _, _, _ in batch],
        "messages": [conversation.messages for _, conversation, _, _ in batch],
        "source": [source for _, _, source, _ in batch],
        "source_row": [row for _, _, _, row in batch],
        "reference": [conversation.reference for _, conversation, _, _ in batch],
        "metadata": [conversation.metadata for _, conversation, _, _ in batch],
    }
    return pa.Table.from_pydict(columns, schema=PROMPTS_SCHEMA)
