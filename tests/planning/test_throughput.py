"""The planner's tokens per second beside published measurements of vLLM (`benchmarks/throughput.json`)."""

from __future__ import annotations

import math
import statistics

from benchmarks.planner import Measurement, is_mixture, predict, read_measurements
from synthgen.planning.roofline import EFFICIENCY
from synthgen.planning.sensitivity import SPREAD

ROWS = read_measurements()
HELD_OUT = [row for row in ROWS if row.held_out]
FITTED = [row for row in ROWS if not row.held_out]


def is_covered(row: Measurement) -> bool:
    """Whether the measured speed lies between the planned ones at both ends of the range that `plan` prints."""
    low, high = (predict(row, EFFICIENCY * factor) for factor in SPREAD["efficiency"][0])
    return low <= row.output_tokens_per_s <= high


def test_range_covers_nine_of_ten_measurements_that_were_held_out() -> None:
    assert len(HELD_OUT) >= 30
    assert {is_mixture(row) for row in HELD_OUT} == {True, False}
    assert not {row.url for row in HELD_OUT} & {row.url for row in FITTED}
    assert statistics.mean(map(is_covered, HELD_OUT)) >= 0.9


def test_planned_speed_is_not_biased() -> None:
    for rows, most in ((FITTED, 1.1), (HELD_OUT, 1.3)):
        errors = [math.log(predict(row) / row.output_tokens_per_s) for row in rows]
        assert abs(statistics.median(errors)) < math.log(most)


def test_measurements_name_where_they_were_read_and_can_be_placed() -> None:
    for row in ROWS:
        assert row.url.startswith("https://")
        assert row.output_tokens_per_s > 0
    assert len(
        {
            (
                row.url,
                row.model,
                row.quantization,
                row.tensor_parallel_size,
                row.kv_cache_dtype,
                row.prompt_tokens,
                row.output_tokens,
                row.sequences,
            )
            for row in ROWS
        }
    ) == len(ROWS)
