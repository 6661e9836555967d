"""What recorded judgements cannot tell is said: several judges in a file, one order twice, the better text first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synthgen.cli.commands.judge_eval import main
from synthgen.errors import ConfigError
from synthgen.judge_eval import LabelledSet, evaluate, format_eval, judgements_from_texts, read_labelled

PAIRS = 40


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _label(path: Path) -> str:
    """Write labelled pairs whose better text is the first, as in RewardBench."""
    return _write(path, [{"id": i, "prompt": f"q{i}", "chosen": "good", "rejected": "bad"} for i in range(PAIRS)])


def _record(number: int, order: str, first: int, second: int, **columns: Any) -> dict[str, Any]:
    text = f"#### Output for Text 1\nRating: {first}\n\n#### Output for Text 2\nRating: {second}"
    return {"id": str(number), "order": order, "text": text, **columns}


def _judge(wrong: int, **columns: Any) -> list[dict[str, Any]]:
    """Return records in both orders of a judge that is wrong about the first `wrong` pairs."""
    return [
        _record(i, order, *((4, 2) if (order == "AB") != (i < wrong) else (2, 4)), **columns)
        for i in range(PAIRS)
        for order in ("AB", "BA")
    ]


def _evaluate(tmp_path: Path, records: Sequence[dict[str, Any]]) -> tuple[LabelledSet, dict[str, Any]]:
    labelled = read_labelled(_label(tmp_path / "labelled.jsonl"))
    judged = judgements_from_texts(labelled, _write(tmp_path / "recorded.jsonl", records))
    return labelled, evaluate(labelled, judged)


def test_two_judges_in_a_file_have_a_table_each(tmp_path: Path) -> None:
    strong, weak = _judge(6, judge_model="org/strong"), _judge(14, judge_model="org/weak")
    _, result = _evaluate(tmp_path, [record for both in zip(strong, weak, strict=True) for record in both])
    judges = result["judges"]
    assert {name: judge["all"]["accuracy"] for name, judge in judges.items()} == {"org/strong": 0.85, "org/weak": 0.65}
    assert {judge["orders"] for judge in judges.values()} == {2}
    assert all(judge["all"]["consistent_accuracy"] == judge["all"]["accuracy"] for judge in judges.values())
    [compared] = result["agreement_between_judges"]
    assert compared == {"judges": ["org/strong", "org/weak"], "pairs": PAIRS, "share": 0.8}
    text = format_eval(result)
    low, high = judges["org/strong"]["all"]["accuracy_interval"]
    said = (
        f"org/strong: better than chance: right in 85.0% ({100 * low:.1f} to {100 * high:.1f}) of the cases, 2 orders"
    )
    assert said in text
    assert 0.65 < low < 0.85 < high < 0.95
    assert "org/strong and org/weak say the same of 80.0% of 40 pairs." in text
    _, alone = _evaluate(tmp_path, strong)
    assert alone["all"] == judges["org/strong"]["all"]


def test_one_order_twice_is_no_consistency(tmp_path: Path) -> None:
    _, result = _evaluate(tmp_path, [_record(i, "AB", 5, 2) for i in range(PAIRS)] * 2)
    assert result["all"]["accuracy"] == 1.0
    assert [result["all"][key] for key in ("consistent_accuracy", "judgebench_accuracy", "llmbar_agreement")] == [
        None
    ] * 3
    assert result["position"] is None  # what would be +1.5 points for the place is quality
    assert result["notes"] == [
        "40 pairs were judged several times in one order and never in the other: they say nothing of consistency",
        "the better text was always shown first: accuracy cannot be told from a liking for that place",
    ]


def test_the_place_goes_by_the_pairs_that_were_judged_in_both_orders(tmp_path: Path) -> None:
    records = _judge(0)[: PAIRS // 2] + [_record(i, "AB", 5, 1) for i in range(PAIRS // 4, PAIRS // 2)]
    _, result = _evaluate(tmp_path, records)
    assert [slot["effect"] for slot in result["position"]] == [0.0, 0.0]
    assert result["all"]["consistent_accuracy"] == 0.25
    assert result["notes"] == ["10 pairs were judged in one order only", "20 pairs have no judgement"]


def test_rules_of_others_by_hand(tmp_path: Path) -> None:
    records = [
        _record(0, "AB", 5, 1), _record(0, "BA", 1, 5),  # right, right
        _record(1, "AB", 5, 1), _record(1, "BA", 3, 3),  # right, tie
        _record(2, "AB", 5, 1), _record(2, "BA", 5, 1),  # right, wrong
        _record(3, "AB", 3, 3), _record(3, "BA", 3, 3),  # tie, tie
        _record(4, "AB", 5, 1), {**_record(4, "BA", 1, 5), "text": "I like both."},  # right, failed
    ]  # fmt: skip
    _, result = _evaluate(tmp_path, records)
    measures = result["all"]
    assert measures["judgebench_accuracy"] == 3 / PAIRS
    assert measures["consistent_accuracy"] == 1 / PAIRS
    assert measures["llmbar_agreement"] == 2 / 4
    assert measures["accuracy"] == pytest.approx((1 + 0.75 + 0.5 + 0.5 + 1) / 5)
    assert measures["accuracy_failed_wrong"] == pytest.approx((2 + 1.5 + 1 + 1 + 1) / (2 * PAIRS))
    assert result["failures"] == {"unparsable": 1}
    assert "Judgements that failed: unparsable 1." in format_eval(result)


def test_ids_of_a_directory_are_those_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("one", "two"):
        rows = [{"input": f"{name}{i}", "output_1": "a", "output_2": "b", "label": 1} for i in range(3)]
        _write(tmp_path / "set" / f"{name}.jsonl", rows)
    labelled = read_labelled(str(tmp_path / "set"))
    assert [pair.id for pair in labelled.pairs] == [f"{name}/{i}" for name in ("one", "two") for i in range(3)]


def test_the_command_says_how_it_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"data={_label(tmp_path / 'labelled.jsonl')}"
    coin = [_record(i, order, *((4, 2) if i % 2 else (2, 4))) for i in range(PAIRS) for order in ("AB", "BA")]
    recorded = f"recorded={_write(tmp_path / 'coin.jsonl', coin)}"
    assert main([data, recorded], None) == 0
    assert "recorded: no better than chance: right in 50.0%" in capsys.readouterr().out
    assert main([data, recorded, "format=json"], None) == 0
    assert json.loads(capsys.readouterr().out)["all"]["accuracy"] == 0.5
    mute = _write(
        tmp_path / "mute.jsonl", [{"id": "0", "order": "AB", "text": "No."}, {"id": "1", "order": "BA", "text": ""}]
    )
    assert main([data, f"recorded={mute}"], None) == 1
    said = capsys.readouterr().out
    assert "recorded: no judgement could be read" in said
    assert "Judgements that failed: no_text 1, unparsable 1." in said
    with pytest.raises(ConfigError, match=r"^judge\.orders=1 has no effect on recorded="):
        main([data, recorded, "judge.orders=1"], None)
    with pytest.raises(ConfigError, match=r"^format=yaml must be text or json"):
        main([data, recorded, "format=yaml"], None)


def test_an_aspect_of_ones_own_reads_recorded_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"data={_label(tmp_path / 'labelled.jsonl')}"
    recorded = f"recorded={_write(tmp_path / 'r.jsonl', [_record(i, o, 9, 7) for i in range(9) for o in ('AB', 'BA')])}"
    aspect = tmp_path / "conf/judge/aspect/wit.yaml"
    aspect.parent.mkdir(parents=True)
    aspect.write_text("name: wit\nmin_rating: 0\nmax_rating: 10\nrubric: Funny?\n")
    assert main([data, recorded, "judge.aspects=[wit]"], str(tmp_path / "conf")) == 0
    assert main([data, recorded], None) == 1  # 9 and 7 are no ratings on the scale to 5
