"""Damage and growth together: which prompts a lost unit takes, and what counts where no manifest says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthgen.errors import ConfigError
from synthgen.ledger.run_dir import MANIFEST, PROMPTS, unit_path
from synthgen.prompts import PromptSource
from tests.ledger.test_ingest import Source, id_of, row


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def test_lost_unit_finds_its_own_prompts_behind_those_that_grew_before_it(source: Source) -> None:
    source.write(*map(row, range(12)))
    source.ingest()
    before = source.run_dir.read_unit(PROMPTS, 1)["prompt_id"]
    source.run_dir.storage.delete(unit_path(PROMPTS, 1))
    source.write(*map(row, [*range(20, 24), *range(12)]))
    ledger = source.ingest()
    assert source.run_dir.read_unit(PROMPTS, 1)["prompt_id"] == before
    assert not any(ledger.units[1].former.values()), "what stages made of it holds"
    assert sorted(source.ids()) == sorted(id_of(i) for i in [*range(12), *range(20, 24)])


def test_last_unit_of_the_first_version_that_only_repeated_others_goes(source: Source) -> None:
    source.write(*map(row, range(10)))
    table = next(PromptSource(source.config().prompts).tables(10))
    for unit, start in enumerate([0, 5, 5]):
        source.run_dir.commit_unit(PROMPTS, unit, table.slice(start, 5))
    source.run_dir.write_json(MANIFEST, {"fingerprint": "other", "unit_rows": [5] * 3, "stats": {}})
    assert source.ingest().unit_rows == [5, 5]
    assert source.ids() == [id_of(i) for i in range(10)]


def test_without_a_manifest_a_unit_that_repeats_another_and_all_behind_it_count_for_nothing(source: Source) -> None:
    source.write(*map(row, range(15)))
    table = next(PromptSource(source.config().prompts).tables(15))
    for unit, start in enumerate([0, 0, 10]):
        source.run_dir.commit_unit(PROMPTS, unit, table.slice(start, 5))
    source.run_dir.commit_unit("stages/generate-main-0123", 2, table)
    source.ingest()
    assert source.ids() == [id_of(i) for i in range(15)]


def test_source_without_one_usable_prompt_is_refused(source: Source) -> None:
    source.write("{ not json", '{"prompt": ""}')
    with pytest.raises(ConfigError, match="gives no prompt: of 2 rows 2 are bad"):
        source.ingest(max_bad_fraction=1.0)
    assert not source.run_dir.committed(PROMPTS)
