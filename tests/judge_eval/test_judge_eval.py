from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_tables import make_judgement, to_judgements

from synthgen.errors import ConfigError
from synthgen.judge_eval import (
    GENERATOR,
    LabelledPair,
    LabelledSet,
    evaluate,
    format_eval,
    judgements_from_texts,
    read_labelled,
    to_unit_tables,
)
from synthgen.judge_eval.metrics import cohens_kappa
from synthgen.judge_eval.tables import make_pair_id
from synthgen.records import GENERATIONS_SCHEMA, JUDGEMENTS_SCHEMA, PROMPTS_SCHEMA

USER = {"role": "user", "content": "Name a prime."}


def _turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ROWS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Name a prime.", "chosen": "7", "rejected": "9"},
    "rewardbench": {"id": 12, "subset": "math", "prompt": "Name a prime.", "chosen": "7", "rejected": "9"},
    "messages": {"prompt": [USER], "chosen": [_turn("7")], "rejected": [_turn("9")]},
    "ultrafeedback": {"prompt": "Name a prime.", "chosen": [USER, _turn("7")], "rejected": [USER, _turn("9")]},
    "no prompt": {"chosen": [USER, _turn("7")], "rejected": [USER, _turn("9")]},
    "llmbar": {"input": "Name a prime.", "output_1": "7", "output_2": "9", "label": 1},
    "judgebench": {
        "pair_id": "ab-1",
        "source": "mmlu-pro-math",
        "question": "Name a prime.",
        "response_A": "7",
        "response_B": "9",
        "label": "A>B",
    },
}


def _write_jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ROWS)
def test_read_labelled_knows_the_usual_fields(tmp_path: Path, kind: str) -> None:
    (pair,) = read_labelled(_write_jsonl(tmp_path / "a.jsonl", ROWS[kind])).pairs
    assert (list(pair.messages), pair.texts, pair.better) == ([USER], ("7", "9"), 0)
    expected = {"rewardbench": ("12", "math"), "judgebench": ("ab-1", "mmlu-pro-math")}
    assert (pair.id, pair.subset) == expected.get(kind, ("0", "all"))


@pytest.mark.parametrize(("kind", "label"), [("llmbar", 2), ("llmbar", "2"), ("judgebench", "B>A")])
def test_read_labelled_takes_the_label_as_it_is(tmp_path: Path, kind: str, label: Any) -> None:
    (pair,) = read_labelled(_write_jsonl(tmp_path / "a.jsonl", {**ROWS[kind], "label": label})).pairs
    assert (pair.texts, pair.better) == (("7", "9"), 1)


def test_read_labelled_reads_every_format(tmp_path: Path) -> None:
    row = ROWS["rewardbench"]
    (tmp_path / "list.json").write_text(json.dumps([row, {**row, "id": 13}]), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "table.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    assert [len(read_labelled(str(tmp_path / name)).pairs) for name in ("list.json", "table.parquet", "rows.csv")] == [
        2,
        1,
        1,
    ]


def test_read_labelled_takes_the_files_of_a_directory_as_subsets(tmp_path: Path) -> None:
    for name in ("natural", "neighbor"):
        _write_jsonl(tmp_path / f"{name}.jsonl", ROWS["llmbar"], ROWS["llmbar"])
    pairs = read_labelled(str(tmp_path)).pairs
    assert [pair.subset for pair in pairs] == ["natural"] * 2 + ["neighbor"] * 2
    assert len({pair.id for pair in pairs}) == 4


def test_read_labelled_makes_repeated_ids_unique(tmp_path: Path) -> None:
    row = ROWS["rewardbench"]
    path = _write_jsonl(tmp_path / "a.jsonl", row, {**row, "subset": "code"}, row)
    assert [pair.id for pair in read_labelled(path).pairs] == ["math/12", "code/12", "math/12#2"]


def test_read_labelled_counts_rows_without_a_pair(tmp_path: Path) -> None:
    bad = [{**ROWS["llmbar"], "label": "both"}, {**ROWS["llmbar"], "output_1": None}, {**ROWS["llmbar"], "input": ""}]
    nul = {**ROWS["llmbar"], "output_2": "a\0b"}
    path = _write_jsonl(tmp_path / "a.jsonl", ROWS["llmbar"], *bad, nul)
    with open(path, "a") as file:
        file.write("{not json\n")
    labelled = read_labelled(path)
    assert len(labelled.pairs) == 1
    assert labelled.unreadable == {
        "empty_prompt": 1,
        "malformed_json": 1,
        "not_a_text": 1,
        "nul_character": 1,
        "unknown_label": 1,
    }


def test_read_labelled_takes_completions_with_a_number_each(tmp_path: Path) -> None:
    rows = [
        {"instruction": "p", "generations": ["a", "b", "c"], "ratings": [3, 5, 1], "model_name": "judge"},
        {"instruction": "q", "completions": [{"response": "d", "score": "2"}, {"response": "e", "score": 2.5}]},
        {"instruction": "r", "generations": ["f", "g"], "ratings": [4, 4]},
        {"instruction": "s", "generations": ["h", "i"], "ratings": [4, None]},
        {"generations": ["j", "k"], "ratings": [1, 2]},
    ]
    labelled = read_labelled(_write_jsonl(tmp_path / "a.jsonl", *rows))
    assert [(pair.messages[-1]["content"], pair.texts) for pair in labelled.pairs] == [
        ("p", ("b", "c")),
        ("q", ("e", "d")),
    ]
    assert labelled.unreadable == {"no_difference": 1, "no_label": 1, "no_prompt": 1}


def test_read_labelled_says_what_it_needs(tmp_path: Path) -> None:
    path = _write_jsonl(tmp_path / "a.jsonl", {"prompt": "p", "answer": "a"})
    with pytest.raises(
        ConfigError, match=r"eval\.path=.* has the fields prompt, answer; it needs chosen, rejected; or input"
    ):
        read_labelled(path, key="eval.path")
    with pytest.raises(ConfigError, match=r"holds no labelled pair: unknown_label 1"):
        read_labelled(_write_jsonl(tmp_path / "b.jsonl", {**ROWS["llmbar"], "label": 0}))
    with pytest.raises(ConfigError, match=r"does not exist"):
        read_labelled(str(tmp_path / "none.jsonl"))


def _make_set(*better: int, subset: str = "all") -> LabelledSet:
    pairs = tuple(
        LabelledPair(f"{subset}-{i}", subset, ({"role": "user", "content": "q"},), (f"a{i}", f"b{i}"), side)  # type: ignore[arg-type]
        for i, side in enumerate(better)
    )
    return LabelledSet(pairs, {})


def _judge(pair: LabelledPair, a: int | None, b: int | None, order: str = "AB", repetition: int = 0) -> dict[str, Any]:
    ratings = {f"{GENERATOR}:0": a, f"{GENERATOR}:1": b}
    slots = [0, 1] if order == "AB" else [1, 0]
    return make_judgement(make_pair_id(pair), ratings, slots=slots, repetition=repetition)


def test_to_unit_tables_makes_two_completions_per_pair_and_hides_the_label() -> None:
    tables = to_unit_tables(_make_set(0, 1))
    prompts, texts = tables["prompts"], tables["generate-labelled"]
    assert (prompts.schema, texts.schema) == (PROMPTS_SCHEMA, GENERATIONS_SCHEMA)
    assert texts["text"].to_pylist() == ["a0", "b0", "a1", "b1"]
    assert texts["completion_id"].to_pylist() == ["labelled:0", "labelled:1"] * 2
    assert len(set(prompts["prompt_id"].to_pylist())) == 2  # the same prompt twice
    assert to_unit_tables(_make_set(1, 0))["generate-labelled"].equals(texts)
    assert to_unit_tables(_make_set(1, 0))["prompts"].equals(prompts)


def test_evaluate_by_hand() -> None:
    labelled = _make_set(0, 0, 1, 1, 0)
    first, second, third, fourth, _ = labelled.pairs
    judgements = to_judgements(
        [
            _judge(first, 5, 1), _judge(first, 4, 2, "BA", 1),  # right, right
            _judge(second, 5, 1), _judge(second, 2, 4, "BA", 1),  # right, wrong
            _judge(third, 3, 3), _judge(third, 1, 2, "BA", 1),  # tie, right
            _judge(fourth, 2, 4), _judge(fourth, None, 5, "BA", 1),  # right, failed
        ]
    )  # fmt: skip
    result = evaluate(labelled, judgements)["all"]
    assert (result["pairs"], result["judged"]) == (5, 4)
    assert result["accuracy"] == pytest.approx((1 + 0.5 + 0.75 + 1) / 4)
    assert result["consistent_accuracy"] == pytest.approx(1 / 5)
    assert result["agreement_between_orders"] == pytest.approx(1 / 3)
    assert result["tie_rate"] == pytest.approx(1 / 7)
    assert result["failed_rate"] == pytest.approx(3 / 10)
    assert result["kappa"] == pytest.approx((5 / 7 - 3 / 7) / (1 - 3 / 7))
    low, high = result["accuracy_interval"]
    assert low < result["accuracy"] < high


def test_evaluate_is_at_chance_for_a_judge_that_goes_by_the_place() -> None:
    labelled = _make_set(*[0, 1] * 20)
    rows = []
    for pair in labelled.pairs:
        rows += [_judge(pair, 5, 1), _judge(pair, 1, 5, "BA", 1)]  # always for what is shown first
    result = evaluate(labelled, to_judgements(rows))
    assert result["all"]["accuracy"] == 0.5
    assert result["all"]["consistent_accuracy"] == 0.0
    assert result["all"]["kappa"] == 0.0
    assert result["position"][0]["effect"] == 2.0
    assert "Text 1 is rated +2.00 points for its place" in format_eval(result)


def test_evaluate_goes_by_subset_and_by_expected_ratings() -> None:
    labelled = LabelledSet(_make_set(0, subset="easy").pairs + _make_set(1, subset="hard").pairs, {"bad": 2})
    rows = [_judge(labelled.pairs[0], 4, 4), _judge(labelled.pairs[1], 4, 4)]
    for row in rows:
        row["expected"] = [4.2, 3.9]
    result = evaluate(labelled, to_judgements(rows))
    assert {name: subset["accuracy"] for name, subset in result["subsets"].items()} == {"easy": 1.0, "hard": 0.0}
    drawn = evaluate(labelled, to_judgements(rows), use_expected=False)
    assert (drawn["all"]["accuracy"], drawn["all"]["tie_rate"], drawn["all"]["kappa"]) == (0.5, 1.0, 0.0)
    text = format_eval(result)
    assert [line.split()[0] for line in text.splitlines()[:4]] == ["subset", "easy", "hard", "all"]
    assert "Rows left out: bad 2." in text
    json.dumps(result, allow_nan=False)


def test_evaluate_without_a_judgement_knows_nothing() -> None:
    result = evaluate(_make_set(0, 1), to_judgements([]))
    assert result["all"]["accuracy"] is None
    assert result["all"]["failed_rate"] == 1.0
    assert "-" in format_eval(result)


def test_cohens_kappa_by_hand() -> None:
    # 10 verdicts, labels 5 first and 5 second: 7 right, 2 wrong, 1 tie. p_e = 0.5 · 0.9.
    assert cohens_kappa(0.7, 0.1) == pytest.approx((0.7 - 0.45) / 0.55)
    assert (cohens_kappa(1.0, 0.0), cohens_kappa(0.5, 0.0), cohens_kappa(0.0, 1.0)) == (1.0, 0.0, 0.0)


def _write_judgement(first: int | str, second: int | str) -> str:
    return "\n\n".join(
        f"#### Output for Text {k}\nRating: {rating}\nRationale: Because it is."
        for k, rating in ((1, first), (2, second))
    )


def test_judgements_from_texts_undoes_the_order(tmp_path: Path) -> None:
    labelled = _make_set(0, 1)
    path = _write_jsonl(
        tmp_path / "judged.jsonl",
        {"id": "all-0", "order": "AB", "text": _write_judgement(5, 2)},
        {"id": "all-0", "order": "BA", "text": _write_judgement(1, 4)},
        {"id": "all-1", "order": "AB", "text": "I prefer the first."},
        {"id": "all-1", "order": "BA", "text": None},
    )
    judgements = judgements_from_texts(labelled, path)
    assert judgements.schema == JUDGEMENTS_SCHEMA
    assert judgements["ratings"].to_pylist() == [[5, 2], [4, 1], [None, None], [None, None]]
    assert judgements["slots"].to_pylist() == [[0, 1], [1, 0], [0, 1], [1, 0]]
    assert judgements["repetition"].to_pylist() == [0, 1, 0, 1]
    assert judgements["status"].to_pylist() == ["ok", "ok", "invalid", "invalid"]
    result = evaluate(labelled, judgements)
    assert (result["all"]["accuracy"], result["all"]["consistent_accuracy"]) == (1.0, 0.5)
    assert result["all"]["failed_rate"] == 0.5


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"id": "all-0", "text": "x"},
            r"recorded=.* line 1: a record needs the fields id, order and text; order is missing",
        ),
        ({"id": "all-0", "order": "12", "text": "x"}, r"line 1: order=12 must be AB or BA"),
        ({"id": "nobody", "order": "AB", "text": "x"}, r"line 1: no labelled pair has the id nobody"),
    ],
)
def test_judgements_from_texts_names_the_line_that_is_wrong(
    tmp_path: Path, record: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        judgements_from_texts(_make_set(0), _write_jsonl(tmp_path / "judged.jsonl", record))
    with pytest.raises(ConfigError, match="is no file of"):
        judgements_from_texts(_make_set(0), str(tmp_path))
