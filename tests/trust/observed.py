"""Observations written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from simulated_places import Liking, draw_slots

from synthgen.trust.observations import Observations, Requests


def make_observations(rating: Any, prompt: Sequence[int], **columns: Any) -> Observations:
    """Return observations of ratings of shape (repetitions, completions, aspects); NaN where there is none."""
    cube = np.asarray(rating, dtype=np.float32)
    expected = np.asarray(columns.pop("expected", np.full(cube.shape, np.nan)), dtype=np.float32)
    completions = cube.shape[1]
    defaults = {
        "aspects": [f"aspect-{i}" for i in range(cube.shape[2])],
        "generators": ["main"],
        "prompts": len(set(prompt)),
        "prompt": np.asarray(prompt),
        "generator": np.zeros(completions, np.int16),
        "tokens": np.full(completions, np.nan, np.float32),
        "rating": cube,
        "expected": expected,
        "value": np.where(np.isnan(expected), cube, expected),
        "shown_prompt": np.empty(0, np.int32),
        "shown_slot": np.empty(0, np.int16),
        "shown_deviation": np.empty(0, np.float32),
        "requests": Requests(),
        "canaries": {},
    }
    return Observations(**{**defaults, **columns})


def one_aspect(*repetitions: Sequence[float]) -> np.ndarray:
    """Return a cube of one aspect from the ratings of each repetition."""
    return np.array(repetitions, dtype=np.float32)[:, :, None]


def observe_judge(
    prompts: int,
    n: int,
    orders: int,
    seed: int,
    *,
    liking: Liking | None = None,
    noise: float = 0.3,
    spread: float = 0.7,
) -> Observations:
    """Return the observations of a judge that goes by quality, noise and `liking`; lengths mean nothing to it."""
    random = np.random.default_rng(seed)
    slots = draw_slots(random, prompts, n, orders)
    quality = np.repeat(random.normal(3, spread, (prompts, 1, n)), orders, axis=1)
    value = quality + random.normal(0, noise, quality.shape)
    if liking is not None:
        value = value + liking(quality, slots)
    cube = value.transpose(1, 0, 2).reshape(orders, prompts * n, 1)
    return make_observations(
        cube,
        np.repeat(np.arange(prompts), n).tolist(),
        slot=slots.transpose(1, 0, 2).reshape(orders, prompts * n, 1),
        tokens=random.integers(20, 400, prompts * n).astype(np.float32),
        shown_prompt=np.repeat(np.arange(prompts), orders * n),
        shown_slot=slots.ravel(),
        shown_size=np.full(slots.size, n),
        shown_deviation=(value - value.mean(axis=2, keepdims=True)).ravel(),
    )
