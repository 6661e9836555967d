"""Ingestion: a run's prompts are what the source says, once each, whatever was refused, killed, edited or damaged."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synthgen.config import Config, PromptDedup, PromptReference, PromptsConfig, RemovedPrompts, RunConfig
from synthgen.errors import ConfigError
from synthgen.ledger.ingest import PromptLedger, ingest_prompts, survey_prompts
from synthgen.ledger.manifest import read_manifest
from synthgen.ledger.run_dir import MANIFEST, PROMPTS, RunDir, encode_unit, unit_path
from synthgen.prompts import RULES, PromptSource
from synthgen.records import make_prompt_id

BAD = "{ not json"


def row(number: int, **more: Any) -> str:
    return json.dumps({"prompt": f"Question number {number}?", **more})


def id_of(number: int) -> str:
    return make_prompt_id([{"role": "user", "content": f"Question number {number}?"}])


class Source:
    """A prompt file and a run directory beside it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "prompts.jsonl"
        self.run_dir = RunDir(str(root / "run"))
        self.root = root

    def write(self, *lines: str) -> None:
        self.path.write_text("".join(f"{line}\n" for line in lines))

    def config(self, unit_size: int = 5, **prompts: Any) -> Config:
        prompts = {"max_bad_fraction": 0.1, "reference_column": None, **prompts}
        run = RunConfig(dir=self.run_dir.url, unit_size=unit_size)
        return Config(prompts=PromptsConfig(path=str(self.path), **prompts), run=run)

    def ingest(self, unit_size: int = 5, **prompts: Any) -> PromptLedger:
        ledger = ingest_prompts(self.run_dir, self.config(unit_size, **prompts))
        units = range(len(ledger.unit_rows))
        assert ledger.unit_rows == [self.run_dir.read_unit(PROMPTS, unit).num_rows for unit in units]
        assert self.run_dir.committed(PROMPTS) == set(units)
        return ledger

    def ids(self) -> list[str]:
        """The ids of all prompts, in the order of the units."""
        units = sorted(self.run_dir.committed(PROMPTS))
        return [one for unit in units for one in self.run_dir.read_unit(PROMPTS, unit)["prompt_id"].to_pylist()]

    def column(self, name: str) -> list[Any]:
        units = sorted(self.run_dir.committed(PROMPTS))
        return [one for unit in units for one in self.run_dir.read_unit(PROMPTS, unit)[name].to_pylist()]

    def bytes(self) -> dict[str, bytes]:
        return {path: self.run_dir.storage.read(path) for path in self.run_dir.storage.list(PROMPTS)}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def test_growth_that_was_refused_leaves_nothing_behind(source: Source) -> None:
    source.write(*map(row, range(10)))
    source.ingest()
    before = source.bytes()
    bad = [row(i) if i % 3 else BAD for i in range(10, 25)]
    source.write(*map(row, range(10)), *bad)
    with pytest.raises(ConfigError, match="mend the file"):
        source.ingest()
    assert source.bytes() == before
    source.write(*map(row, range(25)))
    assert source.ingest().rows == 25
    assert source.ids() == [id_of(i) for i in range(25)]


@pytest.mark.parametrize("unit_size", [3, 5, 10])
def test_units_of_a_killed_growth_are_nothing(source: Source, unit_size: int) -> None:
    """What a growth had committed when it was killed is in no manifest, even with another unit size the next time."""
    source.write(*map(row, range(10)))
    source.ingest()
    manifest = source.run_dir.storage.read(MANIFEST)
    source.write(*map(row, [*range(10), *range(40, 60)]))
    source.ingest()
    source.run_dir.storage.replace(MANIFEST, manifest)  # killed before it was written
    source.write(*map(row, range(30)))
    assert source.ingest(unit_size).rows == 30
    assert source.ids() == [id_of(i) for i in range(30)]


def test_first_start_that_was_refused_takes_the_mended_file(source: Source) -> None:
    source.write(*(row(i) if i % 2 else BAD for i in range(12)))
    with pytest.raises(ConfigError, match="6 of 12 rows are bad"):
        source.ingest()
    assert source.run_dir.committed(PROMPTS) == set()
    source.write(*map(row, range(12)))
    source.ingest()
    assert source.ids() == [id_of(i) for i in range(12)]


def test_other_unit_size_keeps_the_units_that_exist(source: Source) -> None:
    source.write(*map(row, range(12)))
    assert source.ingest(5).unit_rows == [5, 5, 2]
    before = source.bytes()
    source.write(*map(row, range(30)))
    assert source.ingest(8).unit_rows == [5, 5, 2, 8, 8, 2]
    assert {path: source.bytes()[path] for path in before if path != MANIFEST} == {
        path: data for path, data in before.items() if path != MANIFEST
    }


def test_reordered_source_changes_nothing(source: Source) -> None:
    numbers = list(range(14))
    source.write(*map(row, numbers))
    source.ingest()
    before = source.ids()
    random.Random(1).shuffle(numbers)
    source.write(*map(row, [99, *numbers]))
    source.ingest()
    assert source.ids() == [*before, id_of(99)]


def test_removed_prompts_are_refused_kept_or_dropped(source: Source) -> None:
    source.write(*map(row, range(10)))
    source.ingest()
    before = source.bytes()
    source.write(*map(row, [0, 1, 2, 4, 5, 6, 7, 8, 9, 50]))
    with pytest.raises(ConfigError, match=r"gives 1 of them no more .*prompts\.removed=drop"):
        source.ingest()
    assert source.bytes() == before
    kept = source.ingest(removed=RemovedPrompts.keep)
    assert (kept.rows, kept.left_out) == (11, {})
    dropped = source.ingest(removed=RemovedPrompts.drop)
    assert (dropped.rows, dropped.left_out) == (11, {"removed": [id_of(3)]})
    assert source.ids() == [*(id_of(i) for i in range(10)), id_of(50)]
    source.write(*map(row, [*range(10), 50]))
    assert source.ingest(removed=RemovedPrompts.drop).left_out == {}


def test_lower_limit_names_itself_and_what_to_do(source: Source) -> None:
    source.write(*map(row, range(10)))
    source.ingest()
    with pytest.raises(ConfigError, match=r"prompts\.limit=4 gives 6 of them no more"):
        source.ingest(limit=4)
    assert len(source.ingest(limit=4, removed=RemovedPrompts.drop).left_out["removed"]) == 6


def test_exclude_that_comes_late_leaves_prompts_out_and_units_as_they_are(source: Source, tmp_path: Path) -> None:
    source.write(*map(row, range(10)))
    source.ingest()
    before = source.bytes()
    leaked = tmp_path / "benchmark.jsonl"
    leaked.write_text(row(3) + "\n" + row(7) + "\n" + row(12) + "\n")
    source.write(*map(row, range(15)))
    ledger = source.ingest(exclude=[str(leaked)])
    assert sorted(ledger.left_out["excluded"]) == sorted([id_of(3), id_of(7)])
    assert source.ids() == [id_of(i) for i in [*range(12), 13, 14]], "a new prompt that is excluded is not taken at all"
    assert all(source.bytes()[path] == data for path, data in before.items() if path != MANIFEST)
    assert source.ingest().left_out == {}, "taken back"


def test_edited_reference_is_seen_by_the_judge_alone(source: Source) -> None:
    source.write(*(row(i, answer="yes", topic="a") for i in range(10)))
    first = source.ingest(reference_column="answer")
    digests = [unit.file for unit in first.units]
    source.write(*(row(i, answer="no" if i == 7 else "yes", topic="a") for i in range(10)))
    edited = source.ingest(reference_column="answer")
    assert edited.accepts(0, digests[0], ["messages", "reference", "metadata"])
    assert edited.accepts(1, digests[1], ["messages"])
    assert not edited.accepts(1, digests[1], ["messages", "reference"])
    assert source.column("reference") == ["no" if i == 7 else "yes" for i in range(10)]
    source.write(*(row(i, answer="yes", topic="b") for i in range(10)))
    again = source.ingest(reference_column="answer")
    assert again.accepts(0, digests[0], ["messages", "reference"]), "mere metadata"
    assert not again.accepts(0, digests[0], ["metadata"])
    assert {json.loads(value)["topic"] for value in source.column("metadata")} == {"b"}


def test_edit_that_is_taken_back_makes_old_work_hold_again(source: Source) -> None:
    source.write(*(row(i, answer="yes") for i in range(4)))
    [first] = source.ingest(reference_column="answer").units
    source.write(*(row(i, answer="no") for i in range(4)))
    source.ingest(reference_column="answer")
    source.write(*(row(i, answer="yes") for i in range(4)))
    back = source.ingest(reference_column="answer")
    assert back.units[0].file == first.file
    assert back.accepts(0, first.file, ["messages", "reference", "metadata"])


def test_survey_changes_nothing_and_says_what_ingestion_will(source: Source) -> None:
    source.write(*(row(i, answer="yes") for i in range(10)))
    config = source.config(reference_column="answer")
    assert survey_prompts(source.run_dir, config) is None
    source.ingest(reference_column="answer")
    source.write(*(row(i, answer="no") for i in range(13)))
    before = source.bytes()
    config = source.config(reference_column="answer")
    survey = survey_prompts(source.run_dir, config)
    assert source.bytes() == before
    assert survey is not None
    assert survey.ledger == source.ingest(reference_column="answer")


def test_run_that_holds_twins_grows_and_keeps_them(source: Source) -> None:
    """A run that was begun when only equal texts were duplicates: its twins stay, and new ones do not come in."""
    twins = [json.dumps({"prompt": text}) for text in ("Why so?", "Why  so?", "Why so? ")]
    source.write(twins[1], row(1), twins[0])
    source.ingest(dedup=PromptDedup.exact)
    before = source.ids()
    source.write(twins[2], row(2), twins[0], twins[1], row(1), row(3), json.dumps({"prompt": "Question number 3? "}))
    ledger = source.ingest()
    assert source.ids() == [*before, id_of(2), id_of(3)]
    assert (ledger.stats["kept"], ledger.stats["duplicates"], ledger.stats["twins"]) == (5, 2, 2)
    assert ledger.left_out == {}


@pytest.mark.parametrize("removed", [RemovedPrompts.refuse, RemovedPrompts.drop, RemovedPrompts.keep])
def test_twin_takes_the_place_of_a_prompt_that_is_gone(source: Source, removed: RemovedPrompts) -> None:
    source.write(row(1), json.dumps({"prompt": "Why so?"}))
    source.ingest()
    gone = source.ids()[1]
    source.write(json.dumps({"prompt": "Why so? "}), row(1))
    if removed is RemovedPrompts.refuse:
        with pytest.raises(ConfigError, match=f"gives 1 of them no more \\(the first: {gone}\\)"):
            source.ingest()
        return
    ledger = source.ingest(removed=removed)
    new = make_prompt_id([{"role": "user", "content": "Why so? "}])
    if removed is RemovedPrompts.keep:
        assert source.ids() == [id_of(1), gone]
        assert ledger.left_out == {}
    else:
        assert source.ids() == [id_of(1), gone, new]
        assert ledger.left_out == {"removed": [gone]}


def test_run_keeps_the_rules_that_it_was_begun_with(source: Source) -> None:
    """A manifest of before there were rules: answers at the end stay references, so that growth judges none anew."""

    def chat(number: int) -> str:
        turns = [{"role": "user", "content": f"Question number {number}?"}, {"role": "assistant", "content": "Yes."}]
        return json.dumps({"messages": turns})

    def references() -> list[Any]:
        units = range(len(source.run_dir.committed(PROMPTS)))
        return [one for unit in units for one in source.run_dir.read_unit(PROMPTS, unit)["reference"].to_pylist()]

    source.write(chat(1), chat(2))
    source.ingest(reference=PromptReference.last_turn)
    written = source.run_dir.read_json(MANIFEST)
    assert written.pop("rules") == RULES
    written["fingerprint"] = PromptSource(source.config().prompts).fingerprint()  # there was no such key
    source.run_dir.write_json(MANIFEST, written)
    before = source.bytes()
    assert source.ingest().rows == 2
    assert source.bytes() == before
    source.write(chat(1), chat(2), chat(3))
    first = source.ingest()
    assert references() == ["Yes."] * 3
    assert first.units[0].former == {}
    assert source.run_dir.read_json(MANIFEST)["rules"] == 0
    source.write(chat(1), chat(2), chat(3), chat(4))
    source.ingest(reference=PromptReference.none)
    assert references() == [None] * 4


def damage_absent(source: Source, path: str) -> None:
    source.run_dir.storage.delete(path)


def damage_empty(source: Source, path: str) -> None:
    source.run_dir.storage.replace(path, b"")


def damage_half(source: Source, path: str) -> None:
    data = source.run_dir.read_or(b"", path)
    source.run_dir.storage.replace(path, data[: len(data) // 2])


def damage_null(source: Source, path: str) -> None:
    source.run_dir.storage.replace(path, b"null")


def damage_other(source: Source, path: str) -> None:
    other = unit_path(PROMPTS, 0) if path != unit_path(PROMPTS, 0) else unit_path(PROMPTS, 1)
    source.run_dir.storage.replace(path, source.run_dir.storage.read(other))


DAMAGES = [damage_absent, damage_empty, damage_half, damage_null, damage_other]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("path", [MANIFEST, unit_path(PROMPTS, 0), unit_path(PROMPTS, 1), unit_path(PROMPTS, 2)])
def test_damaged_file_is_made_again_to_the_byte(
    source: Source, damage: Callable[[Source, str], None], path: str
) -> None:
    source.write(*map(row, range(12)))
    source.ingest()
    before = source.bytes()
    source.run_dir.commit_unit("stages/generate-main-0123", 2, source.run_dir.read_unit(PROMPTS, 2))
    damage(source, path)
    source.ingest()
    after = source.bytes()
    assert {p: d for p, d in after.items() if p != MANIFEST} == {p: d for p, d in before.items() if p != MANIFEST}
    assert source.ids() == [id_of(i) for i in range(12)]


def test_damaged_unit_whose_prompts_are_gone_is_refused_by_name(source: Source) -> None:
    source.write(*map(row, range(12)))
    source.ingest()
    damage_half(source, unit_path(PROMPTS, 1))
    source.write(*map(row, [0, 1, 2, 3, 4, 10, 11]))
    with pytest.raises(ConfigError, match=r"unit-000001\.parquet is damaged or gone, and prompts\.path="):
        source.ingest()


def test_manifest_of_the_first_version_is_continued(source: Source) -> None:
    source.write(*map(row, range(12)))
    config = source.config()
    source.ingest()
    units = {path: data for path, data in source.bytes().items() if path != MANIFEST}
    source.run_dir.write_json(
        MANIFEST, {"fingerprint": PromptSource(config.prompts).fingerprint(), "unit_rows": [5, 5, 2], "stats": {}}
    )
    ledger = source.ingest()
    assert [unit.former for unit in ledger.units] == [{}, {}, {}]
    assert {path: data for path, data in source.bytes().items() if path != MANIFEST} == units


def test_manifest_that_does_not_say_how_long_prompts_are_is_measured_once(source: Source) -> None:
    source.write(*(row(number) for number in range(12)))
    before = source.ingest()
    stored = source.run_dir.read_json(MANIFEST)
    assert stored is not None
    files = source.bytes()
    longest = [unit.pop("longest") for unit in stored["units"]]
    assert all(int(sizes["0"]) > 0 for sizes in longest)
    source.run_dir.write_json(MANIFEST, stored, indent=None)
    assert source.ingest() == before
    again = source.run_dir.read_json(MANIFEST)
    assert again is not None
    assert [unit["longest"] for unit in again["units"]] == longest
    assert source.bytes() == files


def test_run_that_the_first_version_grew_wrongly_is_mended(source: Source) -> None:
    """It could hold prompts twice and miss others: prompts 20-24 in the places of 10-14 as well as their own."""
    source.write(*map(row, range(25)))
    config = source.config()
    table = next(PromptSource(config.prompts).tables(25))
    for unit, start in enumerate([0, 5, 20, 15, 20]):
        source.run_dir.commit_unit(PROMPTS, unit, table.slice(start, 5))
    source.run_dir.write_json(MANIFEST, {"fingerprint": "other", "unit_rows": [5] * 5, "stats": {}})
    ledger = source.ingest()
    assert sorted(source.ids()) == sorted(id_of(i) for i in range(25))
    assert ledger.units[4].former, "what was made from the file that stood there is looked at"


def test_file_that_no_manifest_speaks_of_is_nothing(source: Source) -> None:
    source.write(*map(row, range(5)))
    source.ingest()
    stray = next(PromptSource(source.config().prompts).tables(5))
    source.run_dir.replace_unit(PROMPTS, 1, encode_unit(stray, None))
    assert ingest_prompts(source.run_dir, source.config()).unit_rows == [5]
    source.write(*map(row, range(8)))
    source.ingest()
    assert source.ids() == [id_of(i) for i in range(8)]


histories = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 9)),
        st.tuples(st.just("bad"), st.integers(1, 9)),
        st.tuples(st.just("shuffle"), st.integers(0, 99)),
        st.tuples(st.just("reference"), st.integers(0, 30)),
        st.tuples(st.just("damage"), st.integers(0, 99)),
        st.tuples(st.just("unit_size"), st.integers(1, 9)),
        st.tuples(st.just("kill"), st.integers(0, 5)),
    ),
    max_size=12,
)


class Killed(BaseException):
    """Stands for SIGKILL between two writes."""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(history=[("grow", 2), ("unit_size", 1), ("kill", 2), ("unit_size", 2), ("kill", 2)])
@given(history=histories)
def test_any_history_ends_with_every_prompt_once(tmp_path_factory: pytest.TempPathFactory, history: list[Any]) -> None:
    source = Source(tmp_path_factory.mktemp("history"))
    numbers, answers, unit_size = [0, 1, 2], dict.fromkeys(range(3), "a"), 4

    def write() -> None:
        source.write(*(row(i, answer=answers[i]) for i in numbers))

    def ingest() -> PromptLedger:
        return ingest_prompts(source.run_dir, source.config(unit_size, reference_column="answer"))

    write()
    ingest()
    for action, amount in history:
        if action == "grow":
            new = range(len(answers), len(answers) + amount)
            numbers += new
            answers |= dict.fromkeys(new, "a")
            write()
        elif action == "bad":
            lines = [row(i, answer=answers[i]) for i in numbers]
            source.write(*lines, *(row(900 + i) for i in range(amount)), *[BAD] * 30)
            with pytest.raises(ConfigError, match="are bad"):
                ingest()
            write()
        elif action == "shuffle":
            random.Random(amount).shuffle(numbers)
            write()
        elif action == "reference":
            answers[amount % len(answers)] += "b"
            write()
        elif action == "unit_size":
            unit_size = amount
        elif action == "damage":
            paths = source.run_dir.storage.list(PROMPTS) or [MANIFEST]
            DAMAGES[amount % 4](source, paths[amount % len(paths)])
        elif action == "kill":
            _kill_while_it_grows(source, ingest, amount)
    ledger = ingest()
    for unit in source.run_dir.committed(PROMPTS) - set(range(len(ledger.unit_rows))):
        source.run_dir.storage.delete(unit_path(PROMPTS, unit))  # of a killed start: in no manifest, so it is nothing
    assert sorted(source.ids()) == sorted(id_of(i) for i in answers)
    assert dict(zip(source.column("prompt_id"), source.column("reference"), strict=True)) == {
        id_of(i): answer for i, answer in answers.items()
    }
    manifest = read_manifest(source.run_dir)
    assert manifest is not None
    files = [source.run_dir.digest_file(PROMPTS, unit) for unit in range(len(ledger.units))]
    assert [unit.file for unit in ledger.units] == files


def _kill_while_it_grows(source: Source, ingest: Callable[[], PromptLedger], writes: int) -> None:
    """End an ingestion before its write number `writes`, without any of its clean-up."""
    storage = source.run_dir.storage
    left = [writes]

    def check() -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    source.run_dir.guard(check)
    try:
        ingest()
    except Killed:
        pass
    finally:
        source.run_dir.storage = storage
