"""Recovery in numbers: what is kept of lm-eval's results, the interval, and the table of the published cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthgen.recovery.evaluations import Evaluation, pair
from synthgen.recovery.settings import Preset, Row
from synthgen.recovery.statistics import FloatArray, Moments, find_interval, measure
from synthgen.recovery.table import label, list_values, make_section, write_page
from synthgen.recovery.worker import reduce_results

RECORDED = json.loads((Path(__file__).parent / "lm_eval_results.json").read_text())
"""What lm-eval 0.4.13 returned for SmolLM2-135M (backend hf, limit=3): a group of two tasks, and one with a filter."""

# RedHatAI/Llama-3.1-8B-Instruct-FP8-block, section Accuracy: base, quantized, recovery.
CARD = {
    "OpenLLM V1": [
        (60.92, 60.92, 100.00), (71.11, 70.66, 99.36), (80.75, 80.48, 99.67), (68.20, 67.96, 99.64),
        (54.54, 54.18, 99.34), (78.45, 78.14, 99.60), (69.00, 68.72, 99.59),
    ],
    "OpenLLM V2": [
        (81.89, 81.41, 99.41), (50.70, 50.96, 100.51), (20.24, 20.77, 102.61), (29.53, 29.95, 101.42),
        (38.89, 38.62, 99.32), (37.71, 37.48, 99.38), (43.16, 43.20, 100.09),
    ],
}  # fmt: skip


def make_evaluation(figure: float, values: list[float] | None = None) -> Evaluation:
    samples = values and {f"t/{at}": (f"h{at}", value, 1.0) for at, value in enumerate(values)}
    return Evaluation(figure, "acc", "none", (0,), samples or None)


def measure_shares(base: list[float], other: list[float]) -> Moments:
    found = measure(np.array(base), np.array(other), np.ones(len(base)))
    assert found is not None
    return found


def draw(seed: int, documents: int, right: float, turned: float) -> tuple[FloatArray, FloatArray]:
    random = np.random.default_rng(seed)
    base = (random.random(documents) < right).astype(float)
    turn = random.random(documents) < turned
    return base, np.where(turn, 1 - base, base)


def test_a_group_is_all_documents_of_its_tasks() -> None:
    found = reduce_results(RECORDED["both"], "both", "acc_norm", "none")
    assert found["figure"] == pytest.approx(1 / 3)
    assert [sample[0] for sample in found["samples"]] == [f"{t}/{i}" for t in ("sums", "answers") for i in range(3)]
    assert sum(sample[2] for sample in found["samples"]) / 6 == pytest.approx(found["figure"])
    assert (found["num_fewshot"], found["lm_eval"]) == ([0], "0.4.13")


def test_a_task_has_its_first_metric_where_none_is_named() -> None:
    found = reduce_results(RECORDED["both"], "sums", None, "none")
    assert (found["metric"], found["figure"]) == ("acc", pytest.approx(2 / 3))
    filtered = reduce_results(RECORDED["plus"], "plus", None, "none")
    assert (filtered["metric"], filtered["filter"], len(filtered["samples"])) == ("exact_match", "first-number", 3)


def test_a_filter_that_is_named_counts_without_a_metric_too() -> None:
    one = RECORDED["plus"]
    figures = {"exact_match,strict": 0.25, **one["results"]["plus"]}
    both = {**one, "results": {"plus": figures}}
    assert reduce_results(both, "plus", None, "first-number")["filter"] == "first-number"
    assert reduce_results(both, "plus", None, "strict")["figure"] == 0.25
    with pytest.raises(ValueError, match=r"plus has no metric \(any\),loose; there are: exact_match,strict"):
        reduce_results(both, "plus", None, "loose")


def test_metrics_that_are_not_there_or_fall_are_refused() -> None:
    with pytest.raises(ValueError, match="plus has no metric acc,none; there are: exact_match,first-number"):
        reduce_results(RECORDED["plus"], "plus", "acc", "none")
    with pytest.raises(ValueError, match="there are: none: it is no task or group"):
        reduce_results(RECORDED["both"], "a_tag", None, "none")
    falling = {**RECORDED["plus"], "higher_is_better": {"plus": {"exact_match": False}}}
    with pytest.raises(ValueError, match="less of exact_match is better"):
        reduce_results(falling, "plus", None, "none")


def test_a_document_may_hold_several_answers() -> None:
    """IFEval's inst_level_strict_acc: a list per document, and the mean over all of them."""
    samples = [
        {"doc_id": at, "filter": "none", "doc_hash": "x", "inst": value}
        for at, value in enumerate([[True, False], [True], [False, False, True]])
    ]
    results: dict[str, Any] = {
        "results": {"ifeval": {"inst,none": 0.5}}, "samples": {"ifeval": samples}, "n-shot": {}, "versions": {},
        "higher_is_better": {},
    }  # fmt: skip
    assert [sample[2:] for sample in reduce_results(results, "ifeval", "inst", "none")["samples"]] == [
        [1, 2], [1, 1], [1, 3]
    ]  # fmt: skip
    results["results"]["ifeval"]["inst,none"] = 0.61
    assert reduce_results(results, "ifeval", "inst", "none")["samples"] is None, "a figure that is no mean over them"


def test_the_interval_is_fiellers() -> None:
    """Its ends are the ratios that Student's t just allows."""
    from scipy.special import stdtrit

    base, other = draw(3, 400, 0.6, 0.08)
    found = measure(base, other, np.ones(400))
    assert found is not None
    interval = find_interval([found])
    assert interval is not None
    for end in interval:
        reach = float(stdtrit(399, 0.975)) * found.variance(end) ** 0.5
        assert abs(found.other - end * found.base) == pytest.approx(reach, rel=1e-9)
    assert interval[0] < found.other / found.base < interval[1]
    random = np.random.default_rng(0)
    apart = measure(base, random.permutation(other), np.ones(400))
    assert apart is not None
    wide = find_interval([apart])
    assert wide is not None
    assert wide[1] - wide[0] > 2 * (interval[1] - interval[0]), "unpaired it is wider"


def test_the_interval_holds_what_is_true() -> None:
    held = 0
    for seed in range(400):
        base, other = draw(seed, 300, 0.5, 0.1)
        found = find_interval([measure_shares(list(base), list(other))])
        assert found is not None
        held += found[0] <= 1.0 <= found[1]  # half of them is right, so as many are lost as gained
    assert 0.93 <= held / 400 <= 0.99


def test_nothing_turned_round_is_no_certainty() -> None:
    few, many = (find_interval([measure_shares([1.0] * n + [0.0] * n, [1.0] * n + [0.0] * n)]) for n in (25, 1000))
    assert few is not None
    assert many is not None
    assert few[0] < 0.95 < 1 < few[1]
    assert 0.995 < many[0] < 1 < many[1]


def test_what_cannot_be_told_has_no_interval() -> None:
    assert find_interval([measure_shares([0.0] * 50, [1.0] * 50)]) is None
    assert find_interval([measure_shares([1.0] + [0.0] * 200, [0.0] * 201)]) is None, "the base may be 0 as well"
    assert find_interval([]) is None
    assert measure(np.array([]), np.array([]), np.array([])) is None


def test_documents_are_paired_by_name_and_content() -> None:
    base, other = make_evaluation(0.5, [1.0, 0.0, 1.0, 0.0]), make_evaluation(0.5, [0.0, 1.0, 1.0, 0.0])
    found = pair(base, other)
    assert found is not None
    assert (found.lost, found.gained, found.documents) == (1, 1, 4)
    assert pair(base, make_evaluation(0.5, [1.0, 0.0])) is None
    assert other.samples is not None
    changed = {**other.samples, "t/0": ("another text", 0.0, 1.0)}
    assert pair(base, Evaluation(0.5, "acc", "none", (0,), changed)) is None
    assert pair(base, make_evaluation(0.5)) is None


@pytest.mark.parametrize("title", CARD)
def test_the_table_has_the_cards_figures(title: str) -> None:
    """Of the card's rounded figures its recoveries and averages come out, but for what the rounding does."""
    *rows, average = CARD[title]
    preset = Preset(title=title, rows=[Row(task=f"t{at}") for at in range(len(rows))])
    section = make_section(
        preset, [(make_evaluation(base / 100), make_evaluation(other / 100)) for base, other, _ in rows]
    )
    for line, wanted in zip(section.lines, [*rows, average], strict=True):
        values = line.to_dict()
        shown = (100 * values["base"], 100 * values["quantized"], values["recovery"])
        assert shown == pytest.approx(wanted, abs=0.02)
    assert section.whole.name == "Average Score"


def test_a_checkpoint_that_has_kept_nothing_is_said_to() -> None:
    preset = Preset(title="Sums", rows=[Row(task="t")])
    section = make_section(preset, [(make_evaluation(0.5), make_evaluation(0.0))])
    page = write_page([section], base="b", model="m", limit=None, problems=[], settings="")
    assert "has kept 0.00% for Sums" in page


def test_a_missing_row_leaves_the_average_open() -> None:
    half = make_evaluation(0.5, [1.0, 0.0])
    preset = Preset(title="Mine", rows=[Row(task="there", name="There | here"), Row(task="gone")])
    section = make_section(preset, [(half, half), (half, None)])
    page = write_page(
        [section], base="org/base", model="models/mine-w8a8/", limit=2, problems=["gone: why"], settings="By hand."
    )
    assert "# Recovery of mine-w8a8\n" in page
    assert "| **Mine** | There \\| here | 50.00 | 50.00 | 100.00 | " in page
    assert "|  | gone (acc, 0-shot) | 50.00 | — | — | — | — |" in page
    assert "|  | **Average Score** | — | — | — | — | — |" in page
    assert "at most 2 documents" in page
    assert page.endswith("## Missing\n\n- gone: why\n")
    assert [row["recovery"] for row in list_values([section])[0]["rows"]] == [100.0, None, None]


def test_checkpoints_are_called_by_their_name() -> None:
    assert [label(name) for name in ("org/name", "/a/b/c", "./x/y/", "builtin:smollm2")] == [
        "org/name", "c", "y", "builtin:smollm2"
    ]  # fmt: skip
