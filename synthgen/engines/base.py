"""What an engine is: the only place where a request meets a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from synthgen.records import Completion, Request, RequestFailure


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself once it has started.

    Attributes:
        max_num_seqs: sequences that it runs at once; a replica keeps a multiple of it outstanding.
        context_length: prompt plus output tokens that fit, or None where the engine does not know.
        kv_cache_tokens: tokens that its KV cache holds, or None.
        details: versions and settings for the report (plain JSON values).
        is_billed: whether tokens are billed: then each sample is asked for on its own, and kept as soon as it is there.
    """

    max_num_seqs: int
    context_length: int | None
    kv_cache_tokens: int | None
    details: dict[str, object]
    is_billed: bool = False


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine has in hand at one moment.

    Attributes:
        tokens: each request in flight, and the output tokens of all of its samples so far.
        running, waiting: sequences that the model works on, and those that wait for their first token.
        kv_cache_share: of the KV cache's tokens that the running sequences hold, 0..1; beginnings that they share count
            for each, so it is an upper bound. None: the engine does not say.
    """

    tokens: Sequence[tuple[Request, int]]
    running: int
    waiting: int
    kv_cache_share: float | None = None


@runtime_checkable
class TellsLoad(Protocol):
    """An engine that knows the tokens in flight. Others count them when a request ends."""

    def load(self) -> EngineLoad:
        """Return what is in hand; called every few seconds, on the event loop."""


class Engine(Protocol):
    """A model that serves requests one at a time, many at once. All methods but `encode` run on one loop."""

    async def start(self) -> EngineInfo:
        """Load the model. Raises ConfigError for what cannot work here, EngineDeadError for what broke."""

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return `requests` ready for `generate`, in order; blocking and thread-safe, called off the event loop.

        Renders the chat template and tokenizes where the engine does so. What cannot be served (a prompt longer than
        the context, a role that the template refuses) becomes a RequestFailure in its place.
        """

    async def generate(self, request: Request) -> list[Completion]:
        """Return the request's completions (len == request.n; completion i is sample i).

        Raises:
            RequestError: this request cannot be served; others can.
            EngineDeadError: no request can be served any more.
            RunFailedError: nor by another engine of the same model (an endpoint's credit is used up, say).
        """

    def heartbeat(self) -> float:
        """Return a number that changes while requests are being served, also while none of them ends.

        A replica whose engine has work and whose numbers stand still for `cluster.stall_timeout_s` counts as hung.
        """

    def notice(self) -> str:
        """Return what the engine waits for, in a few words for the progress; empty: nothing."""

    async def close(self) -> None:
        """Free the model and end every process that the engine started. Safe to call twice."""
