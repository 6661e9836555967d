"""What is estimated on the first part of a run: which part that is, and where KTO cuts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from judged_tables import make_completion, make_judgement, make_prompts, to_generations, to_judgements

from synthgen.config import KtoConfig, PairsConfig
from synthgen.pairs import pair_unit
from synthgen.pairs.estimates import KtoCuts, cut_scores, take_first
from synthgen.records import Tables


def _units(*sizes: int) -> list[Tables]:
    return [
        {"prompts": pa.table({"prompt_id": [f"{unit}-{row}" for row in range(size)]})}
        for unit, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "units", "prompts"),
    [
        ([], 0, 0),
        ([8, 8, 8], 3, 24),  # fewer than 32: all
        ([8] * 5, 4, 32),
        ([8] * 7, 4, 32),  # growth changes nothing
        ([8] * 8, 8, 64),  # until the run has doubled
        ([64], 1, 64),
        ([64] * 15, 8, 512),
        ([1000] * 4, 3, 2048),  # whatever the units
        ([1000] * 90, 5, 4096),  # and 4,096 at most
    ],
)
def test_the_first_part_is_as_large_a_power_of_two_as_there_is(sizes: list[int], units: int, prompts: int) -> None:
    first, every = take_first(iter(_units(*sizes)))
    assert len(first) == units
    assert sum(tables["prompts"].num_rows for tables in first) == prompts
    assert [tables["prompts"].num_rows for tables in every] == sizes


def test_kto_cuts_by_quantiles_of_the_scores() -> None:
    scores = np.append(np.linspace(1.8, 3.4, 101), np.nan)
    assert cut_scores(scores, KtoConfig()) == KtoCuts(pytest.approx(3.0), pytest.approx(2.2))
    assert cut_scores(scores, KtoConfig(desirable=0.1, undesirable=0.5)) == KtoCuts(
        pytest.approx(3.24), pytest.approx(2.6)
    )
    assert cut_scores(scores, KtoConfig(high=4.0, low=2.0)) == KtoCuts(4.0, 2.0)
    assert cut_scores(scores, KtoConfig(high=3.1)) == KtoCuts(3.1, pytest.approx(2.2))


def test_a_score_that_most_have_is_on_neither_side() -> None:
    cuts = cut_scores(np.array([1.0, 3, 3, 3, 3, 3, 3, 5]), KtoConfig())
    assert cuts.low < 3 < cuts.high
    assert (cuts.low, cuts.high) == (pytest.approx(3), pytest.approx(3))
    assert cut_scores(np.empty(0), KtoConfig()) == KtoCuts(float("inf"), float("-inf"))


def test_kto_rows_of_a_scale_of_its_own_are_the_best_and_the_worst() -> None:
    """On a scale to 10 a 4.06 is no good answer."""
    ids = [f"p{i}" for i in range(20)]
    completions = [make_completion(name, i, f"text {name} {i}") for name in ids for i in range(4)]
    judged = [
        make_judgement(name, [1, 4, 6, 9], expected=[1.0 + k / 100, 4.06, 6.0, 9.0]) for k, name in enumerate(ids)
    ]
    tables = make_prompts(*ids), to_generations(completions), to_judgements(judged)
    made = pair_unit(*tables, PairsConfig(), use_expected=True, run_seed=0)
    labels = zip(made.kto["label"].to_pylist(), made.kto["score"].to_pylist(), strict=True)
    assert {score for label, score in labels if label} == {9.0}
    assert made.kto["label"].to_pylist().count(False) == 20
    assert 4.06 not in made.kto["score"].to_pylist()
