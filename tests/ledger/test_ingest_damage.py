"""Damage and growth together: which prompts a lost unit takes, and what counts where no manifest says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthgen.config import PromptsConfig, RemovedPrompts
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


def lose_unit(source: Source) -> list[str]:
    """Lose the unit of prompts 5 to 9 of 12. Return its ids."""
    source.write(*map(row, range(12)))
    source.ingest()
    source.run_dir.storage.delete(unit_path(PROMPTS, 1))
    return [id_of(i) for i in range(5, 10)]


def ids_of_unit(source: Source, unit: int) -> list[str]:
    return source.run_dir.read_unit(PROMPTS, unit)["prompt_id"].to_pylist()


def test_lost_unit_finds_prompts_that_are_excluded_at_the_same_start(source: Source) -> None:
    ids = lose_unit(source)
    leaked = source.root / "leaked.jsonl"
    leaked.write_text(f"{row(1)}\n{row(7)}\n")
    exclude = PromptsConfig(exclude=[str(leaked)]).exclude
    ledger = source.ingest(exclude=exclude)
    assert ids_of_unit(source, 1) == ids
    assert not any(ledger.units[1].former.values()), "what stages made of it holds"
    assert ledger.left_out == {"excluded": [id_of(1), id_of(7)]}


def test_lost_unit_finds_its_prompts_in_any_order_and_with_new_ones_between(source: Source) -> None:
    ids = lose_unit(source)
    source.write(*map(row, [9, 30, 5, 11, 7, 0, 8, 2, 6, 1, 31, 3, 4, 10]))
    ledger = source.ingest()
    assert ids_of_unit(source, 1) == ids
    assert not any(ledger.units[1].former.values())
    assert source.ids()[12:] == [id_of(30), id_of(31)]


def test_edit_of_a_lost_unit_is_seen(source: Source) -> None:
    lose_unit(source)
    file = source.ingest().units[1].file
    source.run_dir.storage.delete(unit_path(PROMPTS, 1))
    source.write(*(row(i, **({"reference": "42"} if i == 6 else {})) for i in range(12)))
    former = source.ingest(reference_column="reference").units[1].former
    assert "reference" in former[file], "what the judge made of it does not hold"
    assert "messages" not in former[file], "what generators made of it holds"


def test_twin_that_comes_before_a_prompt_of_a_lost_unit_stays_a_duplicate(source: Source) -> None:
    ids = lose_unit(source)
    source.write(row(20).replace("number 20", "number  7"), *map(row, range(12)))
    source.ingest()
    assert ids_of_unit(source, 1) == ids
    assert sorted(source.ids()) == sorted(id_of(i) for i in range(12))


def test_prompts_of_a_lost_unit_that_a_limit_leaves_out_are_named_as_of_any_other(source: Source) -> None:
    lose_unit(source)
    with pytest.raises(ConfigError, match=r"limit=7 gives 5 of them no more"):
        source.ingest(limit=7)
    ids = source.ingest(limit=7, removed=RemovedPrompts.keep) and source.ids()
    assert ids == [id_of(i) for i in range(12)]


def test_manifest_without_marks_finds_a_lost_unit_by_its_digest(source: Source) -> None:
    ids = lose_unit(source)
    manifest = source.run_dir.read_json(MANIFEST)
    for unit in manifest["units"]:
        del unit["marks"]
    source.run_dir.write_json(MANIFEST, manifest)
    source.ingest()
    assert ids_of_unit(source, 1) == ids
    assert all("marks" in unit for unit in source.run_dir.read_json(MANIFEST)["units"])


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
