"""Judgements of a judge that likes places: quality, noise, and what each place adds, as tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from synthgen.judge.order import design_order, invert_order
from synthgen.records import GENERATIONS_SCHEMA, JUDGEMENTS_SCHEMA

SHAPES: dict[str, Callable[[int], np.ndarray]] = {
    "first": lambda n: np.eye(n)[0],
    "last": lambda n: np.eye(n)[-1],
    "both ends": lambda n: np.eye(n)[0] + np.eye(n)[-1],
    "linear": lambda n: np.linspace(0.5, -0.5, n),
    "random": lambda n: np.random.default_rng(n).normal(0, 0.5, n),
}

Liking = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(quality, slots), both of shape (prompts, orders, n) → what is added to the ratings."""


def add_places(points: np.ndarray) -> Liking:
    """Return a liking that adds points[slot] to whatever stands there."""
    return lambda quality, slots: points[slots]


def draw_slots(random: np.random.Generator, prompts: int, n: int, orders: int) -> np.ndarray:
    """Return where each text is shown, by the judge's design over base orders that are drawn, shape (prompts, orders,
    n)."""
    base = random.permuted(np.tile(np.arange(n), (prompts, 1)), axis=1)
    first = invert_order(design_order(n, 0))
    slots = np.empty((prompts, orders, n), dtype=np.int64)
    for k in range(orders):
        shown = base[:, [first[text] for text in design_order(n, k)]]  # for k < n, which have one base order
        slots[np.arange(prompts)[:, None], k, shown] = np.arange(n)
    return slots


def simulate_places(
    prompts: int, n: int, orders: int, liking: Liking, *, seed: int = 0, noise: float = 0.3, spread: float = 0.7
) -> tuple[pa.Table, pa.Table]:
    """Return (generations, judgements) of texts whose quality has the standard deviation `spread`, each rated with that
    of `noise`; at most n orders, by the judge's own design."""
    random = np.random.default_rng(seed)
    quality = np.repeat(random.normal(3, spread, (prompts, 1, n)), orders, axis=1)
    slots = draw_slots(random, prompts, n, orders)
    value = quality + liking(quality, slots) + random.normal(0, noise, quality.shape)
    rows = prompts * orders
    ids = [f"main:{i}" for i in range(n)]
    names = [f"{prompt:020x}" for prompt in range(prompts)]

    def lists(flat: pa.Array) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * n, pa.int32()), flat)

    judged = {
        "prompt_id": pa.array(np.repeat(names, orders)),
        "aspect": pa.repeat("overall-rating", rows),
        "repetition": pa.array(np.tile(np.arange(orders), prompts), pa.int32()),
        "group": pa.repeat(pa.scalar(0, pa.int32()), rows),
        "mode": pa.repeat("listwise", rows),
        "judge_model": pa.repeat("org/judge", rows),
        "completion_ids": lists(pa.array(ids * rows)),
        "slots": lists(pa.array(slots.ravel(), pa.int32())),
        "ratings": lists(pa.array(np.clip(np.round(value), 1, 5).ravel(), pa.int32())),
        "expected": lists(pa.array(value.ravel())),
        "rationales": lists(pa.nulls(rows * n, pa.string())),
        "status": pa.repeat("ok", rows),
        "attempts": pa.repeat(pa.scalar(1, pa.int32()), rows),
    }
    written = {
        "prompt_id": pa.array(np.repeat(names, n)),
        "completion_id": pa.array(ids * prompts),
        "generator": pa.repeat("main", prompts * n),
        "model": pa.repeat("org/main", prompts * n),
        "sample_index": pa.array(np.tile(np.arange(n), prompts), pa.int32()),
        "seed": pa.repeat(pa.scalar(0, pa.int64()), prompts * n),
        "text": pa.array([f"{prompt} {i} words" for prompt in range(prompts) for i in range(n)]),
        "finish_reason": pa.repeat("stop", prompts * n),
        "output_tokens": pa.array(random.integers(20, 400, prompts * n), pa.int32()),
    }
    return _complete(written, GENERATIONS_SCHEMA), _complete(judged, JUDGEMENTS_SCHEMA)


def _complete(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({f.name: columns.get(f.name, pa.nulls(rows, f.type)) for f in schema}, schema=schema)
