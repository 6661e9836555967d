"""What an engine refuses of a request's sampling parameters, known before any model is loaded.

The rules are those of vLLM's `SamplingParams` (a test holds them to it); endpoints have the same ranges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from synthgen.config.schema import SamplingConfig
from synthgen.records import Sampling

MOST_SEQUENCES = 16384
"""vLLM's own limit on n, which the environment variable VLLM_MAX_N_SEQUENCES raises."""


def list_sampling_problems(
    key: str, sampling: SamplingConfig | Sampling, *, n: int, n_key: str, one_by_one: bool
) -> Iterator[str]:
    """Yield a line for each thing that an engine would refuse in every request.

    Args:
        key: dotted key of the sampling parameters. n: completions per request. n_key: its dotted key.
        one_by_one: the engine is sent a request for each completion. `echo` is not, as vLLM, so that a rehearsal shows
            what the run would.
    """
    yield from _between(f"{key}.temperature", sampling.temperature, 0, 2)
    if not 0 < sampling.top_p <= 1:
        yield f"{key}.top_p={sampling.top_p:g} must be above 0 and at most 1"
    if sampling.top_k < -1:
        yield f"{key}.top_k={sampling.top_k} must be 0 (no limit) or at least 1"
    yield from _between(f"{key}.min_p", sampling.min_p, 0, 1)
    yield from _at_least(f"{key}.max_tokens", sampling.max_tokens, 1)
    yield from _at_least(f"{key}.min_tokens", sampling.min_tokens, 0)
    if sampling.thinking_budget is not None:
        yield from _at_least(f"{key}.thinking_budget", sampling.thinking_budget, 1)
    if sampling.min_tokens > sampling.max_tokens:
        yield f"{key}.min_tokens={sampling.min_tokens} is above {key}.max_tokens={sampling.max_tokens}"
    if not (math.isfinite(sampling.repetition_penalty) and sampling.repetition_penalty > 0):
        yield f"{key}.repetition_penalty={sampling.repetition_penalty:g} must be above 0; 1 is none"
    yield from _between(f"{key}.presence_penalty", sampling.presence_penalty, -2, 2)
    yield from _between(f"{key}.frequency_penalty", sampling.frequency_penalty, -2, 2)
    if any(not text for text in sampling.stop):
        yield f"{key}.stop holds an empty text; leave it out"
    yield from _at_least(n_key, n, 1)
    if not one_by_one:
        if n > MOST_SEQUENCES:
            yield f"{n_key}={n} must be at most {MOST_SEQUENCES}"
        if n > 1 and sampling.temperature == 0:
            yield (
                f"{key}.temperature=0 with {n_key}={n}: greedy completions of a prompt are all the same, and vLLM "
                f"refuses them; set {n_key}=1, or a temperature above 0"
            )


def _at_least(key: str, value: float, least: float) -> Iterator[str]:
    if not value >= least:
        yield f"{key}={value:g} must be at least {least:g}"


def _between(key: str, value: float, least: float, most: float) -> Iterator[str]:
    if not least <= value <= most:
        yield f"{key}={value:g} must be from {least:g} to {most:g}"
