"""Which tokens spell a choice, and what a model's log-probabilities say about the choices at each place of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from synthgen.records import ChoiceLogprobs

MAX_TOKENS = 128
"""vLLM's limit on `SamplingParams.logprob_token_ids`."""


class Logprobs(Protocol):
    """vLLM's `FlatLogprobs`: position i has the entries start_indices[i] … end_indices[i] - 1."""

    start_indices: list[int]
    end_indices: list[int]
    token_ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class ChoiceTokens:
    """The tokens that spell one of the choices.

    Attributes:
        choices: the legal values, such as `("1", …, "5")`.
        spelling: token id → choice. Several tokens may spell one choice (`4`, ` 4` and `4\\n` where the tokenizer
            merges white space with digits). A choice that takes several tokens is not here.
    """

    choices: tuple[str, ...]
    spelling: dict[int, str]


def find_choice_tokens(choices: tuple[str, ...], token_texts: Sequence[str]) -> ChoiceTokens:
    """Return the tokens whose text, white space aside, is one of `choices`; at most MAX_TOKENS, the plainest first.

    Args:
        token_texts: the decoded text of every token, by id.
    """
    wanted = set(choices)
    found = [(len(text), token) for token, text in enumerate(token_texts) if text.strip() in wanted]
    return ChoiceTokens(choices, {token: token_texts[token].strip() for _, token in sorted(found)[:MAX_TOKENS]})


def read_choice_logprobs(
    text: str,
    token_ids: Sequence[int],
    logprobs: Logprobs,
    tokens: ChoiceTokens,
    decode: Callable[[Sequence[int]], str],
    first: int = 0,
) -> tuple[ChoiceLogprobs, ...]:
    """Return an entry for each place of `text` where a token that spells a choice was drawn, in order.

    Args:
        text: `decode(token_ids)`, or less where a stop string cut it.
        token_ids: the drawn tokens.
        logprobs: per drawn token, the log-probabilities of the drawn token and of those of `tokens`.
        decode: tokens to text; needed for the few prefixes that end before a choice.
        first: the position of `token_ids[0]` in `logprobs`.

    A place where the text goes on to a longer choice (`1` of `10`, spelt with two tokens) gives no entry.
    """
    entries = []
    for position, token in enumerate(token_ids):
        choice = tokens.spelling.get(token)
        if choice is None:
            continue
        start = text.find(choice, len(decode(token_ids[:position])))
        if start < 0 or _longest_choice(text, start, tokens.choices) != choice:
            continue
        begin, end = logprobs.start_indices[first + position], logprobs.end_indices[first + position]
        seen = dict(zip(logprobs.token_ids[begin:end], logprobs.logprobs[begin:end], strict=True))
        entries.append(ChoiceLogprobs(start, _sum_by_choice(seen, tokens)))
    return tuple(entries)


def _longest_choice(text: str, start: int, choices: tuple[str, ...]) -> str:
    return max((choice for choice in choices if text.startswith(choice, start)), key=len, default="")


def _sum_by_choice(logprob_by_token: dict[int, float], tokens: ChoiceTokens) -> dict[str, float]:
    """Return the log-probability of each choice, summed over its spellings; what a grammar rules out is absent."""
    found: dict[str, list[float]] = {}
    for token, logprob in logprob_by_token.items():
        choice = tokens.spelling.get(token)
        if choice is not None and logprob > -math.inf:
            found.setdefault(choice, []).append(logprob)
    return {choice: _log_sum_exp(found[choice]) for choice in tokens.choices if choice in found}


def _log_sum_exp(values: list[float]) -> float:
    if len(values) == 1:
        return values[0]
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))
