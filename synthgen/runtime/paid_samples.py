"""Asking an engine that bills per token: sample by sample, so that what was paid for once is never paid for again.

A sample that fails leaves its siblings as they are, and what is finished outlives the task (`ledger/journal.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace

from synthgen.engines.base import Engine
from synthgen.errors import RequestError
from synthgen.ledger.journal import Journal, Sample
from synthgen.records import (
    NO_BILL,
    Completion,
    Request,
    RequestFailure,
    canonical_json,
    read_call_fields,
    sampling_fields,
)

WRITE_EVERY_S = 10.0
MOST_UNWRITTEN = 32


class PaidSamples:
    """Serves the requests of one task, with a journal of what is finished.

    Args:
        journal: of the task's unit.
    """

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self._engine = engine
        self._journal = journal
        self._known: dict[Sample, Completion] = {}
        self._unwritten: dict[Sample, Completion] = {}
        self._written_at = time.monotonic()
        self._writing = asyncio.Lock()
        self.reused = 0

    async def open(self) -> None:
        """Read what an earlier try of the task has left."""
        self._known = await asyncio.to_thread(self._journal.read)

    async def generate(self, request: Request) -> list[Completion | RequestFailure]:
        """Return the request's samples, in order; a failure stands in the place of a sample that has none.

        Raises:
            RequestError: no sample could be served. And what else `Engine.generate` raises.
        """
        key = _hash_request(request)
        tasks = [asyncio.ensure_future(self._sample(request, key, index)) for index in range(request.n)]
        try:
            samples = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        failures = [sample for sample in samples if isinstance(sample, RequestFailure)]
        if len(failures) == len(samples):
            first, bill = failures[0], sum((failure.bill for failure in failures), NO_BILL)
            raise RequestError(first.reason, first.message, retryable=first.retryable, raw=first.raw, bill=bill)
        return samples

    async def flush(self) -> None:
        """Write what is finished."""
        async with self._writing:
            samples, self._unwritten = self._unwritten, {}
            self._written_at = time.monotonic()
            if samples:
                await asyncio.to_thread(self._journal.write, samples)

    async def _sample(self, request: Request, key: str, index: int) -> Completion | RequestFailure:
        known = self._known.get((key, index))
        if known is not None:
            self.reused += 1
            return known
        try:
            (completion,) = await self._engine.generate(replace(request, n=1, seed=request.seed + index))
        except RequestError as error:
            return RequestFailure(error.reason, str(error), error.retryable, error.raw, error.bill or NO_BILL)
        self._unwritten[key, index] = completion
        late = time.monotonic() - self._written_at > WRITE_EVERY_S
        if late or len(self._unwritten) >= MOST_UNWRITTEN:
            await self.flush()
        return completion


def _hash_request(request: Request) -> str:
    form = request.output_format
    parts = [
        request.request_id,
        request.attempt,
        request.seed,
        [
            [turn["role"], turn["content"], *([more] if (more := read_call_fields(turn)) else [])]
            for turn in request.messages
        ],
        sampling_fields(request.sampling),
        None if form is None else [form.kind, form.spec, form.choices],
        *([list(request.tools)] if request.tools else []),
    ]
    return hashlib.blake2b(canonical_json(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
