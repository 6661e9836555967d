"""The `code` engine: checks of completions in processes of their own, as many at a time as there are CPUs. No model.

A request's `tags` hold what is checked, and its completion's text is what came of it, as JSON. A check that takes too
long is ended with its process, and one that ends its process is told from one that fails: each is a failed request with
a reason, and the next check has a new process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.base import EngineInfo
from synthgen.errors import EngineDeadError, RequestError, RunFailedError
from synthgen.records import Completion, Request, RequestFailure

CHECK, TIMEOUT, COMPLETION, REFERENCE, METADATA = "check", "timeout_s", "completion", "reference", "metadata"
TOOL_CALLS = "tool_calls"
"""Keys of a request's tags; `reference` is absent where there is none."""
LOAD_TIMEOUT_S = 120.0
"""For imports: SymPy takes one second, a user's own may take many."""
LINE_LIMIT = 1 << 28
MAX_WORKERS = 64


class CodeEngine:
    """Runs checks (synthgen.verifiers)."""

    def __init__(self, model: ModelConfig) -> None:
        self._size = max(1, min(model.max_num_seqs or MAX_WORKERS, _count_cpus(), MAX_WORKERS))
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers: list[_Worker] = []
        self._closed = False

    async def start(self) -> EngineInfo:
        """Return how many checks run at a time; processes start with the first checks."""
        self._workers = [_Worker() for _ in range(self._size)]
        for worker in self._workers:
            self._free.put_nowait(worker)
        return EngineInfo(self._size, None, None, {"engine": "code", "processes": self._size})

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return the requests as they are."""
        return list(requests)

    async def generate(self, request: Request) -> list[Completion]:
        """Return one completion whose text is the verdict as JSON.

        Raises:
            RequestError: `timed_out`, `verifier_died` (it ended its process), or what the check failed with.
            RunFailedError: the check cannot be loaded.
        """
        worker = await self._free.get()
        try:
            if self._closed:
                raise EngineDeadError("the code engine is closed")
            answer = await worker.check(request)
        finally:
            self._free.put_nowait(worker)
        if "error" in answer:
            raise RequestError(answer["error"], answer["message"])
        return [Completion(json.dumps(answer), "stop", 0, 0, 0)]

    def heartbeat(self) -> float:
        """Return the time: a check cannot hang, its time is limited here."""
        return time.monotonic()

    def notice(self) -> str:
        """Return nothing."""
        return ""

    async def close(self) -> None:
        """End all processes."""
        self._closed = True
        for worker in self._workers:
            await worker.end()


class _Worker:
    """One process of synthgen.verifiers.worker, started when it is needed, and anew after it was ended."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._loaded: set[str] = set()

    async def check(self, request: Request) -> dict[str, Any]:
        tags = request.tags
        name = hashlib.sha256(tags[CHECK].encode()).hexdigest()[:16]
        timeout_s = float(tags[TIMEOUT])
        case = {
            "prompt": list(request.messages),
            "completion": tags[COMPLETION],
            "reference": tags.get(REFERENCE),
            "metadata": json.loads(tags.get(METADATA) or "{}")
            | ({"tools": list(request.tools)} if request.tools else {}),
            "tool_calls": json.loads(tags.get(TOOL_CALLS) or "[]"),
        }
        try:
            await self._load(name, tags[CHECK])
            try:
                return await asyncio.wait_for(self._ask({"run": name, "case": case}), timeout_s)
            except TimeoutError:
                await self.end()
                raise RequestError("timed_out", f"the check took more than {timeout_s:g} s", retryable=True) from None
            except (EOFError, OSError) as error:
                code = await self.end()
                raise RequestError("verifier_died", f"the check ended its process ({_describe_exit(code)})") from error
        except asyncio.CancelledError:
            await self.end()  # its answer would be taken for the next one's
            raise

    async def _load(self, name: str, check: str) -> None:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "synthgen.verifiers.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
            self._loaded = set()
        if name in self._loaded:
            return
        try:
            answer = await asyncio.wait_for(self._ask({"load": check, "as": name}), LOAD_TIMEOUT_S)
        except TimeoutError:
            await self.end()
            raise RunFailedError(f"a verifier did not load within {LOAD_TIMEOUT_S:g} s") from None
        except (EOFError, OSError) as error:
            code = await self.end()
            raise RunFailedError(f"a verifier ended its process while it loaded ({_describe_exit(code)})") from error
        if "failed" in answer:
            raise RunFailedError(f"a verifier cannot be loaded: {answer['failed']}")
        self._loaded.add(name)

    async def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> int | None:
        """End the process, if there is one, and return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            try:
                # One that has ended by itself a moment ago has a status of its own.
                return await asyncio.wait_for(process.wait(), 0.05)
            except TimeoutError:
                process.kill()
        return await process.wait()


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "no status"
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _count_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
