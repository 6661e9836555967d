"""The prompts of a run: every source row by row, duplicates collapsed, as tables of PROMPTS_SCHEMA.

One file because it is one way with one count of what became of each row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from synthgen.config import PromptDedup, PromptsConfig, PromptTurns, RemovedPrompts
from synthgen.errors import ConfigError
from synthgen.prompts.choice import find_columns, require_columns
from synthgen.prompts.columns import (
    NAMED_KEYS,
    RULES,
    Columns,
    Conversation,
    ask_each_turn,
    read_conversation,
    read_user_texts,
)
from synthgen.prompts.decontaminate import OverlapIndex, list_excluded, read_user_text
from synthgen.prompts.locate import Located, list_paths, locate
from synthgen.prompts.rows import BadRow, Row, RowSource, clip
from synthgen.prompts.twins import Distinct, make_twin_id
from synthgen.prompts.unusable import UnusableRowError
from synthgen.records import (
    PROMPTS_SCHEMA,
    SCHEMA_VERSION,
    Messages,
    Tool,
    canonical_json,
    dump_calls,
    extend_schema,
    make_prompt_id,
    stable_hex,
)

SAMPLE_ROWS = 1000  # rows of a source whose column names are taken for its columns
MAX_LISTED = 10_000  # bad and excluded rows that are listed; all are counted


@dataclass(slots=True)
class PromptStats:
    """What became of the rows: rows_read + turns = kept + duplicates + excluded + sum(bad.values())."""

    rows_read: int = 0
    kept: int = 0
    duplicates: int = 0
    excluded: int = 0  # prompts that overlap with `prompts.exclude`
    bad: dict[str, int] = field(default_factory=dict)  # reason → rows
    twins: int = 0  # of the duplicates, those whose texts are not equal to the character
    turns: int = 0  # prompts beyond a row's first one (`prompts.turns=each`)


PromptRow = tuple[str, Conversation, str, int]
"""One prompt: its id, the conversation, the name of its source and its 0-based row there."""
_Read = tuple[str, Row, Conversation]
_Distinct = tuple[str, str, Row, Conversation]  # with the prompt's id in front


class PromptSource:
    """The prompts that a configuration names.

    Attributes:
        stats: counts of the rows read so far by the last iteration of `tables`.
        bad_rows: the rows that gave no prompt, in order; the first MAX_LISTED of them.
        excluded_rows: the same for prompts that overlap with `prompts.exclude`.
        excluded_known: ids of those of them that were given all the same, because a run holds them already.
        notes: what a user should know of how the source was read, each in one line.
    """

    def __init__(self, config: PromptsConfig, key: str = "prompts.path", rules: int = RULES) -> None:
        if config.limit is not None and config.limit < 1:
            raise ConfigError(f"prompts.limit={config.limit} must be at least 1, or null for all prompts")
        if not 0 <= config.max_bad_fraction <= 1:
            raise ConfigError(f"prompts.max_bad_fraction={config.max_bad_fraction} must be between 0 and 1")
        self.config = config
        self._key = key
        self._rules = rules
        self.stats = PromptStats()
        self.bad_rows: list[BadRow] = []
        self.excluded_rows: list[BadRow] = []
        self.excluded_known: list[str] = []
        self.notes: list[str] = []

    @cached_property
    def _located(self) -> Located:
        return locate(self.config, self._key, self._rules)

    @property
    def _sources(self) -> list[RowSource]:
        return self._located.sources

    @cached_property
    def _excluded(self) -> list[PromptSource]:
        limit = self.config.max_bad_fraction
        return [
            PromptSource(replace(entry, max_bad_fraction=limit), "prompts.exclude", self._rules)
            for entry in list_excluded(self.config.exclude)
        ]

    @property
    def path(self) -> str:
        """What is read, for messages."""
        return ", ".join(list_paths(self.config, self._key))

    def fingerprint(self) -> str:
        """Return the identity of the rows that `tables` gives: contents (files by hash, Hub data sets by commit) and
        the configuration that picks from them. Raises ConfigError for a source that is not there."""
        picked = asdict(self.config)
        for key in ("path", "config", "split", "revision", "exclude", "max_bad_fraction", "removed"):
            del picked[key]  # in the identities, or without influence on the rows
        # What the first versions had no choice of, so that their fingerprints stay.
        if self.config.reference is None:
            del picked["reference"]
        if self.config.dedup is PromptDedup.normalized:
            del picked["dedup"]
        if self.config.tools_column is None:
            del picked["tools_column"]
        if self.config.turns in (None, PromptTurns.first):
            del picked["turns"]
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

    def prompts(
        self, known: Container[bytes] = frozenset(), known_twins: Container[bytes] = frozenset()
    ) -> Iterator[PromptRow]:
        """Yield every prompt that is kept, as `tables` does.

        Args:
            known: ids, as bytes, of prompts that a run holds. They are given even where they are twins of others, and
                where they overlap with `prompts.exclude`; those that do are listed in `excluded_known`, and count as
                excluded.
            known_twins: `twin_key` of each of them. A prompt that is another one's twin is given only where the source
                has that one no more, at the end.
        """
        self.stats, self.bad_rows, self.excluded_rows, self.excluded_known = PromptStats(), [], [], []
        self.notes = list(self._located.notes)
        yield from self._iterate_prompts(known, known_twins)
        self._check_stats()
        self._note_twins()

    def twin_key(self, messages: Messages, tools: Sequence[Tool] = ()) -> bytes:
        """Return what prompts share that count as the same (`prompts.dedup`)."""
        return self._twin_key(messages, tools, make_prompt_id(messages, tools))

    def _twin_key(self, messages: Messages, tools: Sequence[Tool], prompt_id: str) -> bytes:
        exact = self.config.dedup is PromptDedup.exact
        return bytes.fromhex(prompt_id if exact else make_twin_id(messages, prompt_id, tools))

    def _iterate_prompts(self, known: Container[bytes], known_twins: Container[bytes]) -> Iterator[PromptRow]:
        overlap = OverlapIndex(text for other in self._excluded for text in other.user_texts())
        for prompt_id, source, row, conversation in self._iterate_distinct(known, known_twins):
            text = read_user_text(conversation.messages)
            if text in overlap:
                self.stats.excluded += 1
                bad = BadRow(source, row.line, "contaminated", "shares 13 words with prompts.exclude", clip(text))
                _append(self.excluded_rows, bad)
                if bytes.fromhex(prompt_id) in known:
                    self.excluded_known.append(prompt_id)
                    yield prompt_id, conversation, source, row.index
                continue
            self.stats.kept += 1
            yield prompt_id, conversation, source, row.index
            if self.stats.kept == self.config.limit:
                return

    def _iterate_distinct(self, known: Container[bytes], known_twins: Container[bytes]) -> Iterator[_Distinct]:
        """Yield the first of the conversations that count as the same, and every one that is known, once."""
        keeps_removed = self.config.removed is RemovedPrompts.keep
        distinct: Distinct[_Distinct] = Distinct(known, known_twins, keeps_removed=keeps_removed)
        for source, row, conversation in self._iterate_conversations():
            prompt_id = _identify(conversation)
            read = (prompt_id, source, row, conversation)
            key = self._twin_key(conversation.messages, conversation.tools, prompt_id)
            if distinct.take(read, bytes.fromhex(prompt_id), key):
                yield read
            self.stats.duplicates, self.stats.twins = distinct.duplicates, distinct.twins
        for read in distinct.take_held():
            yield read
        self.stats.duplicates, self.stats.twins = distinct.duplicates, distinct.twins

    def conversations(self) -> Iterator[tuple[Row, Conversation]]:
        """Yield every row that holds a prompt, with its conversation: duplicates too."""
        self.stats, self.bad_rows = PromptStats(), []
        for _, row, conversation in self._iterate_conversations():
            yield row, conversation

    def rows_as_prompts(self) -> Iterator[PromptRow]:
        """Yield every row that holds a prompt, as a prompt: duplicates and what `prompts.exclude` names too."""
        for source, row, conversation in self._iterate_conversations():
            yield _identify(conversation), conversation, source, row.index

    def user_texts(self) -> Iterator[str]:
        """Yield what is said in the prompts, whatever their form: every user turn, and the turns together."""
        self.stats, self.bad_rows = PromptStats(), []
        for source, row, columns in self._iterate_rows():
            try:
                texts = read_user_texts(row.values, columns)
            except UnusableRowError as error:
                self._add_bad(BadRow(source, row.line, error.reason, str(error), _show_values(row)))
                continue
            self.stats.kept += 1
            yield from texts
            if len(texts) > 1:
                yield "\n".join(texts)
        self._check_stats()

    def _iterate_conversations(self) -> Iterator[_Read]:
        cut = 0
        for source, row, columns in self._iterate_rows():
            try:
                conversation = read_conversation(row.values, columns)
            except UnusableRowError as error:
                self._add_bad(BadRow(source, row.line, error.reason, str(error), _show_values(row)))
                continue
            cut += conversation.cut
            if conversation.cut and cut == 1 and not columns.reference:
                self._note(
                    f"{source}: conversations end with an answer, which is cut off (it stays in the metadata as "
                    "last_turn); prompts.reference=last_turn shows it to the judge as the reference answer"
                )
            if columns.turns is PromptTurns.each:
                for number, one in enumerate(ask_each_turn(conversation, last_turn=columns.last_turn)):
                    self.stats.turns += number > 0
                    yield source, row, one
            else:
                yield source, row, conversation

    def _iterate_rows(self) -> Iterator[tuple[str, Row, Columns]]:
        """Yield the rows that can be read, with the columns to look at; the others are counted."""
        named = [name for key in NAMED_KEYS if (name := getattr(self.config, key))]
        looked = not named
        for source in self._sources:
            rows = source.rows()
            sample = list(itertools.islice(rows, SAMPLE_ROWS))
            good = [row.values for row in sample if isinstance(row, Row)]
            if good and not looked:
                looked = True
                require_columns(self.config, good, source.name, self._sources)
            columns = self._find_columns(source, good) if good else None
            for row in itertools.chain(sample, rows):
                self.stats.rows_read += 1
                if isinstance(row, BadRow):
                    self._add_bad(row)
                    continue
                if columns is None:
                    if not looked:
                        looked = True
                        require_columns(self.config, [row.values], source.name, self._sources)
                    columns = self._find_columns(source, [row.values])
                yield source.name, row, columns

    def _find_columns(self, source: RowSource, sample: Sequence[Mapping[str, Any]]) -> Columns:
        return find_columns(self.config, source, sample, self._rules, self._note)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _note_twins(self) -> None:
        if self.stats.twins:
            self._note(
                f"{self.stats.twins} of {self.stats.rows_read} rows differ from others in white space, Unicode form or "
                "invisible characters only, and count as duplicates; prompts.dedup=exact keeps them"
            )

    def _add_bad(self, row: BadRow) -> None:
        self.stats.bad[row.reason] = self.stats.bad.get(row.reason, 0) + 1
        _append(self.bad_rows, row)

    def _check_stats(self) -> None:
        bad = sum(self.stats.bad.values())
        path = f"{self._key}={self.path}"
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


def _identify(conversation: Conversation) -> str:
    return make_prompt_id(conversation.messages, conversation.tools)


def _show_values(row: Row) -> str:
    try:
        return clip(canonical_json(dict(row.values)))
    except RecursionError:
        return ""


def _append(rows: list[BadRow], row: BadRow) -> None:
    if len(rows) < MAX_LISTED:
        rows.append(row)


def make_table(batch: Sequence[PromptRow]) -> pa.Table:
    """Return prompts as a table of PROMPTS_SCHEMA, in their order, with those of TOOLS_FIELDS that they need."""
    conversations = [conversation for _, conversation, _, _ in batch]
    columns: dict[str, list[Any]] = {
        "prompt_id": [prompt_id for prompt_id, _, _, _ in batch],
        "messages": [conversation.messages for conversation in conversations],
        "source": [source for _, _, source, _ in batch],
        "source_row": [row for _, _, _, row in batch],
        "reference": [conversation.reference for _, conversation, _, _ in batch],
        "metadata": [conversation.metadata for _, conversation, _, _ in batch],
    }
    columns |= dump_calls([one.messages for one in conversations], [one.tools for one in conversations])
    return pa.Table.from_pydict(columns, schema=extend_schema(PROMPTS_SCHEMA, list(columns)))
