from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_tables import make_completion, make_judgement, make_prompts, to_generations, to_judgements
from pair_oracle import Scored, pair_prompt

from synthgen.config import KtoConfig, PairsConfig
from synthgen.pairs import PairCounts, UnitPairs, pair_unit
from synthgen.pairs.eligibility import FAULTS, find_faults
from synthgen.pairs.index import index_completions
from synthgen.pairs.policies import POLICIES
from synthgen.records import KTO_SCHEMA, PAIRS_SCHEMA, SCORED_GENERATIONS_SCHEMA

TEXTS = [
    "The sea is deep and blue.",
    "Bread needs flour, water and salt.",
    "A short walk clears the mind.",
    "Twelve drummers drumming loudly.",
    "",
    "\u200b \n",
    "I'm sorry, but I can't help with that.",
    "The sea is deep and blue!",
    None,
]


def _pair(
    completions: list[dict[str, Any]], judgements: list[dict[str, Any]], prompts: pa.Table | None = None, **config: Any
) -> UnitPairs:
    prompts = make_prompts("p") if prompts is None else prompts
    tables = prompts, to_generations(completions), to_judgements(judgements)
    return pair_unit(*tables, PairsConfig(**config), use_expected=True, run_seed=3)


def _pair_ratings(ratings: list[int | None], **config: Any) -> UnitPairs:
    """Pair one prompt whose completion i has the text TEXTS[i] and the rating ratings[i]."""
    completions = [make_completion("p", i, TEXTS[i]) for i in range(len(ratings))]
    return _pair(completions, [make_judgement("p", ratings)], **config)


def _ids(result: UnitPairs) -> list[tuple[str, str]]:
    columns = (result.pairs[f"{side}_completion_id"].to_pylist() for side in ("chosen", "rejected"))
    return list(zip(*columns, strict=True))


def test_pair_unit_writes_the_row_that_trl_trains_on() -> None:
    result = _pair_ratings([2, 5, 3])
    (row,) = result.pairs.to_pylist()
    assert row == {
        "prompt_id": "p",
        "prompt": [{"role": "user", "content": "Question p"}],
        "chosen": [{"role": "assistant", "content": TEXTS[1]}],
        "rejected": [{"role": "assistant", "content": TEXTS[0]}],
        "chosen_model": "org/main",
        "rejected_model": "org/main",
        "chosen_generator": "main",
        "rejected_generator": "main",
        "chosen_completion_id": "main:1",
        "rejected_completion_id": "main:0",
        "chosen_score": 5.0,
        "rejected_score": 2.0,
        "score_margin": 3.0,
        "chosen_tokens": 6,
        "rejected_tokens": 6,
        "pair_policy": "best_worst",
        "pair_index": 0,
        "source": "questions.jsonl",
        "metadata": '{"category":"writing"}',
    }
    assert result.counts == PairCounts(prompts=1, pairs=1, prompts_with_pairs=1)


def test_pair_unit_gives_every_completion_with_every_judgement() -> None:
    completions = [make_completion("p", 0, "one"), make_completion("p", 1, None)]
    judgements = [
        make_judgement("p", [4], aspect="honesty", repetition=1, expected=[4.5], rationales=["clear"]),
        make_judgement("p", [2], aspect="honesty", repetition=0),
        make_judgement("p", [None], aspect="helpfulness", status="invalid"),
        make_judgement("p", [5], canary="duplicate", canary_detail="{}"),
    ]
    result = _pair(completions, judgements)
    good, failed = result.generations.to_pylist()
    assert good["score"] == 3.25
    assert good["prompt"] == [{"role": "user", "content": "Question p"}]
    judge = {"judge_model": "org/judge", "slot": 0, "place": None, "raw_text": "raw"}
    assert good["judgements"] == [
        {"aspect": "helpfulness", "repetition": 0, "rating": None, "expected": None, "rationale": None}
        | {"status": "invalid"}
        | judge,
        {"aspect": "honesty", "repetition": 0, "rating": 2, "expected": None, "rationale": None, "status": "ok"}
        | judge,
        {"aspect": "honesty", "repetition": 1, "rating": 4, "expected": 4.5, "rationale": "clear", "status": "ok"}
        | judge,
    ]
    assert failed["score"] is None
    assert failed["judgements"] == []
    assert failed["error"] == "engine_error"


@pytest.mark.parametrize("policy", [name for name in POLICIES.names if name != "by_generator"])
def test_pair_unit_never_pairs_a_tie(policy: str) -> None:
    result = _pair_ratings([3, 3, 3, 3], policy=policy, generator="main", max_pairs_per_prompt=9)
    assert len(result.pairs) == 0
    assert result.counts == PairCounts(prompts=1, ties=1)


@pytest.mark.parametrize(
    ("completions", "ratings", "config", "reason"),
    [
        ([("a b c", {})], [5], {}, "few_completions"),
        ([("a b c", {}), (None, {})], [5], {}, "few_completions"),
        ([], [], {}, "few_completions"),
        ([("a b c", {}), ("d e f", {})], [5, None], {}, "few_scores"),
        (
            [("a b c", {}), ("d e f", {})],
            [5, 1],
            {"policy": "on_policy", "generator": "x"},
            "generator_absent",
        ),
        ([("a b c", {"finish_reason": "length"}), ("d e f", {})], [5, 1], {}, "cut_off"),
        ([("a b c", {}), ("d e f", {"finish_reason": "length"})], [5, 1], {}, "cut_off"),
        (
            [("a b c", {"finish_reason": "length"}), ("d e f", {})],
            [5, 1],
            {"reject_cut_off": True},
            "chosen_cut_off",
        ),
        ([(" \u200b", {}), ("d e f", {})], [5, 1], {}, "chosen_empty"),
        ([("I cannot assist with that.", {}), ("d e f", {})], [5, 1], {}, "chosen_refusal"),
        ([("a b c", {}), ("d e f", {})], [3, 2], {"min_margin": 1.5}, "below_min_margin"),
        ([("a b c", {}), ("d e f", {})], [5, 2], {"max_margin": 2.5}, "above_max_margin"),
        ([("a b c", {}), ("d e f", {})], [5, 2], {"max_score_std": 1.4}, "scores_too_far"),
        ([("a b c d", {}), ("e", {})], [3, 2], {"max_length_ratio": 3.9}, "length_ratio"),
        ([("same text", {}), ("same text", {})], [5, 1], {"max_similarity": 1.0}, "too_similar"),
        ([("same text here!", {}), ("same text here?", {})], [5, 1], {"max_similarity": 0.9}, "too_similar"),
    ],
)
def test_pair_unit_counts_each_drop_by_its_reason(
    completions: list[tuple[str | None, dict[str, Any]]], ratings: list[int], config: dict[str, Any], reason: str
) -> None:
    rows = [make_completion("p", i, text, **columns) for i, (text, columns) in enumerate(completions)]
    result = _pair(rows, [make_judgement("p", ratings)] if ratings else [], **config)
    assert result.counts == PairCounts(prompts=1, dropped={reason: 1})
    assert len(result.pairs) == 0


def test_pair_unit_passes_what_stands_at_a_limit() -> None:
    assert _pair_ratings([3, 2], min_margin=1.0).counts.pairs == 1
    completions = [make_completion("p", 0, "a b c d"), make_completion("p", 1, "e")]
    assert _pair(completions, [make_judgement("p", [3, 2])], max_length_ratio=4.0).counts.pairs == 1
    tenths = make_judgement("p", [3, 3], expected=[3.3, 3.2])  # 3.3 - 3.2 is 0.09999999999999964
    assert _pair(completions, [tenths], min_margin=0.1).counts.pairs == 1


def test_pair_unit_takes_the_next_best_for_what_must_not_be_chosen() -> None:
    rows = [
        make_completion("p", 0, TEXTS[0], finish_reason="length"),
        make_completion("p", 1, "I'm sorry, but I can't help with that."),
        make_completion("p", 2, TEXTS[2]),
        make_completion("p", 3, TEXTS[3], finish_reason="length"),
    ]
    judgement = make_judgement("p", [5, 4, 3, 1])
    assert _ids(_pair(rows, [judgement])) == []
    assert _ids(_pair(rows, [judgement], reject_cut_off=True)) == [("main:2", "main:3")]
    assert _ids(_pair(rows, [judgement], drop_refusals=False)) == [("main:1", "main:2")]


def test_pair_unit_does_not_measure_lengths_that_the_engine_did_not_count() -> None:
    rows = [make_completion("p", i, TEXTS[i], output_tokens=None) for i in range(2)]
    result = _pair(rows, [make_judgement("p", [1, 5])], max_length_ratio=1.0)
    assert result.pairs["chosen_tokens"].to_pylist() == [None]


def test_best_random_draws_every_worse_completion_about_as_often() -> None:
    prompts = make_prompts(*(f"p{i}" for i in range(600)))
    ids = prompts["prompt_id"].to_pylist()
    rows = [make_completion(p, i, TEXTS[i]) for p in ids for i in range(4)]
    judgements = [make_judgement(p, [1, 5, 2, 3]) for p in ids]
    drawn = Counter(_ids(_pair(rows, judgements, prompts, policy="best_random")))
    assert set(drawn) == {("main:1", f"main:{i}") for i in (0, 2, 3)}
    assert all(150 < count < 250 for count in drawn.values())  # 200 expected, standard deviation 11.5


def test_best_vs_mu_minus_2sigma_leaves_the_outlier() -> None:
    # μ = 71/18, σ² = 297/18 - μ² (population): μ - 2σ = 2.004; the nearest score is 2, not the minimum of 1.
    ratings = [5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 1]
    rows = [make_completion("p", i, f"{i} " * (i + 1) + TEXTS[i % 4]) for i in range(len(ratings))]
    assert np.mean(ratings) - 2 * np.std(ratings) == pytest.approx(2.004, abs=1e-3)
    result = _pair(rows, [make_judgement("p", ratings)], policy="best_vs_mu_minus_2sigma")
    assert result.pairs["rejected_completion_id"].to_pylist() == ["main:16"]


def test_all_pairs_goes_by_margin_up_to_its_cap() -> None:
    pairs = [("main:1", "main:0"), ("main:1", "main:2"), ("main:2", "main:0")]
    everything = _pair_ratings([1, 5, 2], policy="all_pairs", max_pairs_per_prompt=9)
    assert _ids(everything) == pairs
    assert everything.pairs["pair_index"].to_pylist() == [0, 1, 2]
    assert everything.counts == PairCounts(prompts=1, pairs=3, prompts_with_pairs=1)
    assert _ids(_pair_ratings([1, 5, 2], policy="all_pairs", max_pairs_per_prompt=2)) == pairs[:2]


def test_on_policy_has_the_named_generator_on_a_side() -> None:
    rows = [
        make_completion("p", 0, TEXTS[0], generator="other"),
        make_completion("p", 1, TEXTS[1], generator="other"),
        make_completion("p", 0, TEXTS[2], generator="mine"),
    ]
    judgement = make_judgement("p", {"other:0": 5, "other:1": 1, "mine:0": 4})
    result = _pair([*rows], [judgement], policy="on_policy", generator="mine", max_pairs_per_prompt=9)
    assert _ids(result) == [("mine:0", "other:1"), ("other:0", "mine:0")]


def test_pair_unit_labels_kto_rows_by_thresholds() -> None:
    rows = [
        *[make_completion("p", i, TEXTS[i]) for i in range(4)],
        make_completion("p", 4, "cut off", finish_reason="length"),
        make_completion("p", 5, ""),
    ]
    result = _pair(rows, [make_judgement("p", [5, 4, 3, 1, 5, 1])], kto=KtoConfig(high=4.0, low=2.0))
    found = {row["completion_id"]: (row["label"], row["score"]) for row in result.kto.to_pylist()}
    # 2 lies between the thresholds; 4 is good but cut off; 5 is empty, and bad.
    assert found == {"main:0": (True, 5.0), "main:1": (True, 4.0), "main:3": (False, 1.0), "main:5": (False, 1.0)}
    assert result.kto["completion"].to_pylist()[0] == [{"role": "assistant", "content": TEXTS[0]}]
    assert result.kto["completion_tokens"].to_pylist()[0] == 6


def test_pair_unit_rejects_completions_of_unknown_prompts() -> None:
    with pytest.raises(ValueError, match="1 rows are of prompts that the prompt table lacks"):
        _pair([make_completion("q", 0, "a")], [])


def test_pair_unit_of_nothing_is_empty() -> None:
    result = _pair([], [], make_prompts())
    assert (len(result.pairs), len(result.kto), len(result.generations)) == (0, 0, 0)
    assert result.counts == PairCounts()


def test_pair_counts_add_up() -> None:
    left = PairCounts(5, 3, 2, 1, {"few_scores": 1, "too_similar": 1})
    right = PairCounts(2, 0, 0, 0, {"few_scores": 2})
    assert left + right == PairCounts(7, 3, 2, 1, {"few_scores": 3, "too_similar": 1})


@st.composite
def units(draw: st.DrawFn) -> tuple[list[str], list[dict[str, Any]], list[dict[str, Any]], PairsConfig]:
    prompt_ids = [f"prompt-{i}" for i in range(draw(st.integers(1, 4)))]
    completions, judgements = [], []
    for prompt_id in prompt_ids:
        ids = []
        for i in range(draw(st.integers(0, 6))):
            row = make_completion(
                prompt_id,
                i,
                draw(st.sampled_from(TEXTS)),
                generator=draw(st.sampled_from(["main", "other"])),
                output_tokens=draw(st.sampled_from([None, 0, 5, 6, 40])),
            )
            if row["text"] is not None:
                row["finish_reason"] = draw(st.sampled_from(["stop", "stop", "length"]))
                ids.append(row["completion_id"])
            completions.append(row)
        for repetition in range(draw(st.integers(0, 2))):
            ratings = {name: draw(st.sampled_from([None, 1, 2, 4, 5])) for name in ids}
            judgements.append(make_judgement(prompt_id, ratings, repetition=repetition))
    config = PairsConfig(
        kto=KtoConfig(high=4.0, low=2.0),
        policy=draw(st.sampled_from(POLICIES.names)),
        min_margin=draw(st.sampled_from([0.0, 0.5, 2.0])),
        max_pairs_per_prompt=draw(st.sampled_from([1, 2, 50])),
        max_length_ratio=draw(st.sampled_from([0.0, 1.5])),
        max_similarity=draw(st.sampled_from([0.95, 1.0])),
        drop_refusals=draw(st.booleans()),
        reject_cut_off=draw(st.booleans()),
        generator="main",
        chosen_generator="other",
        rejected_generator="main",
        max_margin=draw(st.sampled_from([0.0, 2.5])),
        max_score_std=draw(st.sampled_from([0.0, 1.0])),
        max_length_gap=draw(st.sampled_from([0, 2])),
        chosen_must_pass=draw(st.sampled_from([[], ["judge"]])),
        rejected_must_fail=draw(st.sampled_from([[], ["judge"]])),
    )
    return prompt_ids, completions, judgements, config


@settings(max_examples=150, deadline=None)
@given(unit=units(), random=st.randoms(use_true_random=False))
def test_pair_unit_follows_the_rules_whatever_the_order(unit: Any, random: Any) -> None:
    prompt_ids, completions, judgements, config = unit
    tables = make_prompts(*prompt_ids), to_generations(completions), to_judgements(judgements)
    result = pair_unit(*tables, config, use_expected=True, run_seed=5)
    result.pairs.validate(full=True)
    result.kto.validate(full=True)
    result.generations.validate(full=True)
    by_score = config.policy != "by_generator"
    assert result.pairs.schema.names == PAIRS_SCHEMA.names
    assert (result.pairs.schema == PAIRS_SCHEMA) == by_score  # without a score, its columns may be null
    assert result.kto.schema == KTO_SCHEMA
    assert result.generations.schema == SCORED_GENERATIONS_SCHEMA

    orders = [pa.array(random.sample(range(len(table)), len(table)), pa.int64()) for table in tables]
    shuffled = [table.take(order) for table, order in zip(tables, orders, strict=True)]
    again = pair_unit(*shuffled, config, use_expected=True, run_seed=5)
    assert (again.pairs.equals(result.pairs), again.kto.equals(result.kto), again.counts == result.counts) == (
        True,
    ) * 3
    assert again.generations.equals(result.generations)

    counts = result.counts
    assert counts.prompts == counts.prompts_with_pairs + counts.ties + sum(counts.dropped.values()) == len(prompt_ids)
    expected_pairs, buckets = _apply_oracle(prompt_ids, result, tables[1], config)
    assert [
        (p, *pair) for p, pair in zip(result.pairs["prompt_id"].to_pylist(), _ids(result), strict=True)
    ] == expected_pairs
    assert counts.ties == buckets.pop("tie", 0)
    assert counts.dropped == {reason: count for reason, count in buckets.items() if reason}


def _apply_oracle(
    prompt_ids: list[str], result: UnitPairs, generations: pa.Table, config: PairsConfig
) -> tuple[list[tuple[str, str, str]], Counter[str]]:
    scores = {
        (row["prompt_id"], row["completion_id"]): row["score"]
        for row in result.generations.select(["prompt_id", "completion_id", "score"]).to_pylist()
    }
    draws = index_completions(generations).draw(5).tolist()
    faults = find_faults(generations, config.drop_refusals).tolist()
    completions: dict[str, list[Scored]] = {prompt_id: [] for prompt_id in prompt_ids}
    for row, draw, fault in zip(generations.to_pylist(), draws, faults, strict=True):
        key = row["prompt_id"], row["completion_id"]
        name = FAULTS[fault] if fault >= 0 else None
        completions[key[0]].append(
            Scored(key[1], row["text"], scores[key], name, row["generator"], row["output_tokens"], draw)
        )
    pairs, buckets = [], Counter()
    for prompt_id in prompt_ids:
        made, bucket = pair_prompt(completions[prompt_id], config)
        pairs.extend((prompt_id, *pair) for pair in made)
        buckets[bucket] += 1
    return pairs, buckets
