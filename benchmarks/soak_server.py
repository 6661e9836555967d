"""An OpenAI-compatible server that fails at random: what `benchmarks.soak` and its test run against."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

PROMPT_TOKENS = 40
OUTPUT_TOKENS = 120
UNPAID = ("reset", "500", "502", "503", "429", "429 with Retry-After", "empty", "HTML")
PAID = ("cut", "JSON cut off", "bad gzip", "finish_reason=error")
"""Faults before and after the model has worked: a provider bills the second kind too."""


class SoakServer:
    """Answers each request well, but for a share of faults, drawn evenly from all kinds.

    Attributes:
        faults: how many of each kind.
        requests: all of them. paid_tokens: of all answers that the model has worked for.
    """

    def __init__(self, share: float, seed: int, latency_s: float = 0.0) -> None:
        self._share = share
        self._random = random.Random(seed)
        self._latency_s = latency_s
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.paid_tokens = 0
        self.url = ""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer, or fail."""
        body = await request.json()
        self.requests += 1
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        fault = self._random.choice(UNPAID + PAID) if self._random.random() < self._share else ""
        self.faults[fault or "none"] += 1
        small = body.get("max_tokens") == 1
        output = 1 if small else OUTPUT_TOKENS
        if fault not in UNPAID:
            self.paid_tokens += PROMPT_TOKENS + output
        text = f"Answer {body.get('seed')} " + "word " * (output // 2)
        answer = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": output, "total_tokens": 0},
        }
        return await self._fail(request, fault, answer) if fault else web.json_response(answer)

    async def _fail(self, request: web.Request, fault: str, answer: dict[str, Any]) -> web.StreamResponse:
        data = json.dumps(answer).encode()
        if fault in ("500", "502", "503", "429"):
            return web.json_response({"error": {"message": "try again"}}, status=int(fault))
        if fault == "429 with Retry-After":
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.2"})
        if fault in ("empty", "HTML"):
            return web.Response(text="" if fault == "empty" else "<html>a proxy's page</html>")
        if fault == "JSON cut off":
            return web.Response(body=data[: len(data) // 2], content_type="application/json")
        if fault == "bad gzip":
            return web.Response(body=data, headers={"Content-Encoding": "gzip"})
        if fault == "finish_reason=error":
            answer["choices"][0] |= {"finish_reason": "error"}
            return web.json_response(answer)
        response = web.StreamResponse()
        assert request.transport is not None
        if fault == "cut":
            response.content_length = len(data)
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
        request.transport.abort()
        return response


async def _list_models(_: web.Request) -> web.StreamResponse:
    return web.json_response({"data": [{"id": "soaked"}]})


@asynccontextmanager
async def serve(server: SoakServer) -> AsyncIterator[SoakServer]:
    """Serve on a free port of loopback while the block runs."""
    app = web.Application()
    app.router.add_get("/v1/models", _list_models)
    app.router.add_post("/v1/chat/completions", server.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        await runner.cleanup()
