"""A replica: one engine, and the tasks that it runs. In: a task. Out: counts; the rows go from file to file.

`Replica` is an ordinary class with async methods; `synthgen.runtime.pools` makes a Ray actor of it. Everything that
blocks (files, stages, tokenization) runs in threads, so that the event loop only feeds the engine.

One file because its methods share one event loop and the totals that they keep on it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from synthgen.config import ModelConfig
from synthgen.config.own_files import unpack_own
from synthgen.engines import make_engine
from synthgen.engines.base import Engine, TellsLoad
from synthgen.engines.vllm_loading import LoadingWatch
from synthgen.errors import RequestError
from synthgen.ledger.journal import Journal
from synthgen.ledger.run_dir import RunDir
from synthgen.planning.prices import price_usd
from synthgen.records import NO_BILL, Completion, Outcome, Request, RequestFailure, UnitCounts
from synthgen.runtime.failures import Held, hold_back
from synthgen.runtime.paid_samples import PaidSamples
from synthgen.runtime.replica_info import Place, Progress, ReplicaInfo, find_place
from synthgen.runtime.retries import Kept
from synthgen.runtime.scheduler import Task
from synthgen.runtime.unit_files import Made, Served, UnitFiles, take_prompts
from synthgen.stages.base import LLMStage, StageFiles, divide_request

logger = logging.getLogger(__name__)

Generate = Callable[[Request], Awaitable[Sequence[Completion | RequestFailure]]]

KILLS_ENGINE = "kills_engine"


@dataclass(slots=True)
class _OpenUnit:
    """A unit whose requests are being served: how many there are, how many ended, and which are in the engine."""

    stage: str
    requests: int
    ended: int = 0
    flying: set[int] = field(default_factory=set)


class Replica:
    """Hosts one engine for the stages of one pool.

    Args:
        max_failed_fraction: a unit of which more rows failed is not committed but held: see `run`.
        own: what the driver loaded of the user's files (`pack_own`).
    """

    def __init__(
        self,
        run_dir: RunDir,
        model: ModelConfig,
        stages: Mapping[str, StageFiles],
        log_path: str | None,
        name: str,
        max_failed_fraction: float = 1.0,
        own: Mapping[str, Any] | None = None,
    ) -> None:
        if log_path:
            _redirect_output(log_path)
        unpack_own(own or {})
        self._run_dir = run_dir
        self._files = UnitFiles(run_dir)
        self._stages = stages
        self._name = name
        self._model = model
        self._engine: Engine = make_engine(model)
        self._max_failed_fraction = max_failed_fraction
        self._held: dict[Task, Made] = {}
        self._is_billed = False
        self._paid: set[PaidSamples] = set()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="unit")
        self._progress = Progress()
        self._open = 0
        self._changed_at = 0.0
        self._finished: Counter[str] = Counter()  # output tokens of requests that ended, by stage
        self._units: dict[int, _OpenUnit] = {}
        self._watch: LoadingWatch | None = LoadingWatch(log_path, model.id)

    async def start(self) -> ReplicaInfo:
        """Load the engine. Raises what `Engine.start` raises."""
        began = time.monotonic()
        info, _ = await asyncio.gather(self._engine.start(), self._in_thread(_warm_up))
        self._watch = None
        self._is_billed = info.is_billed
        return ReplicaInfo(info, socket.gethostname(), os.getpid(), time.monotonic() - began)

    async def run(self, task: Task) -> UnitCounts | Held:
        """Run a task and commit its file.

        A unit too much of which failed is held instead: the driver, which sees all units, has it committed (`settle`),
        or what is good of it kept (`keep`).

        Raises:
            EngineDeadError: the engine is gone, and with it this replica.
            CorruptUnitError: an input file cannot be read.
        """
        self._note_open(+1)
        try:
            return await self._run(task)
        finally:
            self._note_open(-1)

    async def settle(self, task: Task) -> UnitCounts:
        """Commit a task that is held."""
        made = self._held.pop(task)
        counts: UnitCounts = await self._in_thread(self._files.commit, made)
        return counts

    async def keep(self, task: Task) -> None:
        """Keep the good rows of a task that is held for the next start, which asks the failed ones again."""
        made = self._held.pop(task)
        await self._in_thread(self._files.keep, made)

    async def hello(self) -> Place:
        """Return where the replica was placed: the answer says that it was."""
        return find_place()

    async def progress(self) -> Progress:
        """Return the running totals."""
        self._settle_clock()
        self._progress.heartbeat = self._engine.heartbeat()
        self._look()
        self._progress.notice = self._engine.notice()
        self._progress.lessons = tuple(getattr(self._engine, "lessons", ()))
        return self._progress

    def _look(self) -> None:
        """Note what the engine has in hand, or what it is at while it loads."""
        progress = self._progress
        if self._watch is not None:
            loading = self._watch.look()
            progress.phase, progress.phase_s = loading.phase, loading.seconds
            return
        progress.phase, progress.phase_s = "", 0.0
        made = self._finished.copy()
        units = list(self._units.values())
        progress.requests = {
            stage: (sum(u.ended for u in units if u.stage == stage), sum(u.requests for u in units if u.stage == stage))
            for stage in {unit.stage for unit in units}
        }
        if isinstance(self._engine, TellsLoad):
            load = self._engine.load()
            stages = {number: unit.stage for unit in units for number in unit.flying}
            for request, tokens in load.tokens:
                if (stage := stages.get(id(request))) is not None:
                    made[stage] += tokens
            progress.running, progress.waiting = load.running, load.waiting
            progress.kv_cache_share = load.kv_cache_share
        else:
            progress.running = sum(len(unit.flying) for unit in units)
        progress.made = dict(made)

    async def close(self) -> Progress:
        """Free the engine and return the final totals."""
        self._settle_clock()
        for paid in list(self._paid):
            await paid.flush()
        await self._engine.close()
        return self._progress

    async def _run(self, task: Task) -> UnitCounts | Held:
        files = self._stages[task.stage]
        if task.merge:
            merged: UnitCounts = await self._in_thread(self._files.merge, files, task)
            return merged
        tables = await self._in_thread(self._files.read_inputs, files, task)
        kept = await self._in_thread(self._files.read_kept, files, task, tables)
        asked = tables if kept is None else take_prompts(tables, kept.ask)
        requests = await self._in_thread(files.stage.prepare, asked)
        if task.quarantine:
            message = f"the engine died {task.deaths} times while serving this prompt"
            outcomes: list[Outcome] = [RequestFailure(KILLS_ENGINE, message) for _ in requests]
            served = Served(requests, outcomes)
        elif self._is_billed:
            return await self._run_paid(files, task, tables, asked, requests, kept)
        else:
            served = await self._serve(files.stage, requests, self._engine.generate)
        return await self._finish(files, task, tables, asked, served, kept)

    async def _finish(
        self,
        files: StageFiles,
        task: Task,
        tables: Mapping[str, pa.Table],
        asked: Mapping[str, pa.Table],
        served: Served,
        kept: Kept | None,
    ) -> UnitCounts | Held:
        made: Made = await self._in_thread(self._files.make, files, task, tables, asked, served, kept)
        held = None if task.rows is not None else hold_back(made.counts, made.failures, self._max_failed_fraction)
        if held is not None:
            self._held[task] = made
            await self._in_thread(self._files.write_failures, made)
            return held
        counts: UnitCounts = await self._in_thread(self._files.commit, made)
        return counts

    async def _run_paid(
        self,
        files: StageFiles,
        task: Task,
        tables: Mapping[str, pa.Table],
        asked: Mapping[str, pa.Table],
        requests: list[Request],
        kept: Kept | None,
    ) -> UnitCounts | Held:
        """Run a task on an engine that bills per token: what is finished outlives the task.

        The journal goes once nothing of the unit can be asked again: samples whose siblings failed stay paid for.
        """
        journal = Journal(self._run_dir, files.directory, task.unit)
        paid = PaidSamples(self._engine, journal)
        await paid.open()
        self._paid.add(paid)
        done: UnitCounts | Held | None = None
        try:
            served = await self._serve(files.stage, requests, paid.generate)
            done = await self._finish(files, task, tables, asked, served, kept)
            return done
        finally:
            self._paid.discard(paid)
            if isinstance(done, UnitCounts) and task.rows is None and not done.may_pass:
                await self._in_thread(journal.delete)
            else:
                await paid.flush()

    async def _serve(self, stage: LLMStage, requests: list[Request], generate: Generate) -> Served:
        encoded = await self._in_thread(self._engine.encode, requests)
        unit = _OpenUnit(stage.name, len(requests))
        self._units[id(unit)] = unit
        try:
            return await self._serve_unit(stage, requests, encoded, unit, generate)
        finally:
            del self._units[id(unit)]

    async def _serve_unit(
        self,
        stage: LLMStage,
        requests: list[Request],
        encoded: list[Request | RequestFailure],
        unit: _OpenUnit,
        generate: Generate,
    ) -> Served:
        totals: Counter[str] = Counter()
        began = time.time()

        async def serve(index: int) -> list[tuple[Request, Outcome]]:
            try:
                return await serve_divided(requests[index], encoded[index])
            finally:
                unit.ended += 1

        async def serve_divided(request: Request, item: Request | RequestFailure) -> list[tuple[Request, Outcome]]:
            request, outcome = await serve_one(request, item)
            parts = divide_request(stage, request, outcome)
            if not parts:
                return [(request, outcome)]
            items = await self._in_thread(self._engine.encode, parts)
            served = [await serve_divided(part, item) for part, item in zip(parts, items, strict=True)]
            return [pair for pairs in served for pair in pairs]

        async def serve_one(request: Request, item: Request | RequestFailure) -> tuple[Request, Outcome]:
            while True:
                if isinstance(item, RequestFailure):
                    return request, item
                unit.flying.add(id(item))
                try:
                    samples = await generate(item)
                except RequestError as error:
                    failure = RequestFailure(
                        error.reason, str(error), error.retryable, error.raw, error.bill or NO_BILL
                    )
                    self._count_bill(totals, [failure])
                    return request, failure
                finally:
                    unit.flying.discard(id(item))
                self._count_bill(totals, samples)
                completions = [sample for sample in samples if isinstance(sample, Completion)]
                self._count(totals, completions)
                self._finished[stage.name] += sum(completion.output_tokens for completion in completions)
                if len(completions) < len(samples):
                    return request, samples
                follow_up = stage.follow_up(request, completions)
                if follow_up is None:
                    return request, completions
                request = follow_up
                item = (await self._in_thread(self._engine.encode, [follow_up]))[0]

        tasks = [asyncio.ensure_future(serve(index)) for index in range(len(requests))]
        try:
            results = await asyncio.gather(*tasks)
        except BaseException:
            for pending in tasks:
                pending.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        counts = UnitCounts(
            requests=totals["requests"],
            input_tokens=totals["input"],
            cached_input_tokens=totals["cached"],
            output_tokens=totals["output"],
            reasoning_tokens=totals["reasoning"],
            billed_requests=totals["billed_requests"],
            billed_input_tokens=totals["billed_input"],
            billed_cached_tokens=totals["billed_cached"],
            billed_output_tokens=totals["billed_output"],
            started_at=began,
            ended_at=time.time(),
        )
        pairs = [pair for pairs in results for pair in pairs]
        return Served([request for request, _ in pairs], [outcome for _, outcome in pairs], counts)

    def _count(self, totals: Counter[str], completions: Sequence[Completion]) -> None:
        first = completions[0]
        output = sum(completion.output_tokens for completion in completions)
        totals["requests"] += 1
        totals["input"] += first.prompt_tokens
        totals["cached"] += first.cached_tokens
        totals["output"] += output
        totals["reasoning"] += sum(completion.reasoning_tokens or 0 for completion in completions)
        progress = self._progress
        progress.completions += len(completions)
        progress.input_tokens += first.prompt_tokens
        progress.output_tokens += output

    def _count_bill(self, totals: Counter[str], samples: Sequence[Completion | RequestFailure]) -> None:
        for sample in samples:
            bill = sample.bill
            totals["billed_requests"] += bill.requests
            totals["billed_input"] += bill.input_tokens
            totals["billed_cached"] += bill.cached_tokens
            totals["billed_output"] += bill.output_tokens
            self._progress.usd += price_usd(self._model, bill) or 0.0

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _note_open(self, change: int) -> None:
        self._settle_clock()
        self._changed_at = time.monotonic()  # the clock begins with the first task
        self._open += change
        self._progress.outstanding = self._open

    def _settle_clock(self) -> None:
        now = time.monotonic()
        if not self._changed_at:
            return
        if self._open:
            self._progress.busy_s += now - self._changed_at
        else:
            self._progress.waiting_s += now - self._changed_at
        self._changed_at = now


def _warm_up() -> None:
    """Let pyarrow import what it takes for its first column (pandas, where that is installed: a second or two)."""
    pa.array(["a unit would wait for it"])


def _redirect_output(log_path: str) -> None:
    """Send this process's and its children's output to a file: the libraries' chatter is kept and not shown."""
    os.makedirs(os.path.dirname(log_path), exist_ok=True)
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
