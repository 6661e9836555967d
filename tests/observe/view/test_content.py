from __future__ import annotations

from typing import Any

from synthgen.observe.view.content import make_content
from synthgen.observe.view.funnel import prompt_funnel


def section(report: dict[str, Any], name: str) -> dict[str, Any]:
    content = make_content(report, [], "pairs", 0)
    return next(section for section in content["sections"] if section["id"] == name)


def test_funnel_accounts_for_every_row(report: dict[str, Any]) -> None:
    rows = prompt_funnel(report)[0]["rows"]
    steps = [row for row in rows if not row["drop"]]
    assert [(row["label"], row["value"]) for row in steps] == [
        ("rows read", 8000), ("prompts", 7473), ("prompts with a pair", 6641),
    ]  # fmt: skip
    second = rows.index(steps[1])
    lost_between = sum(row["value"] for row in rows[second:] if row["drop"])
    assert steps[1]["value"] - lost_between == steps[2]["value"]


def test_funnel_without_losses_in_reading_starts_with_the_prompts() -> None:
    report = {"prompts": {"rows_read": 5, "kept": 5}, "pairs": {"made": 8, "prompts_with_pairs": 4, "ties": 1}}
    rows = prompt_funnel(report)[0]["rows"]
    assert [row["label"] for row in rows] == ["prompts", "ties: all completions score the same", "prompts with a pair"]
    assert rows[-1]["note"] == "8 pairs"


def test_funnel_shows_reasons_that_it_does_not_know() -> None:
    report = {"prompts": {"kept": 3}, "pairs": {"made": 2, "ties": 0, "dropped_by_reason": {"new_reason": 1}}}
    assert "new_reason" in [row["label"] for row in prompt_funnel(report)[0]["rows"]]


def test_content_compares_generators(report: dict[str, Any]) -> None:
    blocks = section(report, "models")["blocks"]
    wins = next(block for block in blocks if block.get("title") == "How often each wins")
    assert [(row["label"], row["value"], row["text"]) for row in wins["rows"]] == [
        ("llama70b", 0.41, "41.0%"), ("llama405b", 0.59, "59.0%"),
    ]  # fmt: skip


def test_content_shows_findings_and_all_numbers_of_the_trust_report(report: dict[str, Any]) -> None:
    blocks = section(report, "trust")["blocks"]
    assert blocks[0]["kind"] == "findings"
    assert {row["verdict"] for row in blocks[0]["rows"]} == {"fine", "warning"}
    numbers = dict(blocks[-1]["rows"])
    assert numbers["order flips · flip rate"] == "0.125"
    assert numbers["position · 1 · effect"] == "0.19"


def test_content_shows_ratings_by_aspect(report: dict[str, Any]) -> None:
    ratings, margins = section(report, "histograms")["blocks"]
    assert list(ratings["series"]) == ["helpfulness", "honesty", "truthfulness"]
    assert list(margins["series"]) == [""]


def test_content_gives_each_stage_its_line(report: dict[str, Any]) -> None:
    blocks = section(report, "speed")["blocks"]
    assert [series["name"] for series in blocks[0]["series"]] == ["generate-main", "judge"]
    assert len(blocks[0]["series"][0]["points"]) == len(report["throughput"])
    waiting = next(block for block in blocks if block["title"] == "Replicas waiting for work")
    assert waiting["rows"][-1]["text"] == "17.0%"


def test_content_says_that_the_samples_are_not_all(report: dict[str, Any]) -> None:
    content = make_content(report, [{}] * 300, "pairs", 2)
    block = next(section for section in content["sections"] if section["id"] == "samples")["blocks"][0]
    assert block["note"] == (
        "A random 300 of 6,641 pairs; all are in dataset/. 2 long ones are left out to keep the page small."
    )
