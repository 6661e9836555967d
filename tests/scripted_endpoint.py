"""An OpenAI-compatible server that answers by a script, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Reply = tuple[int, Any, dict[str, str]]


@dataclass(frozen=True)
class Broken:
    """An answer that is none: `reset` before it begins, `cut` in the middle, or a newline now and then, for ever."""

    how: Literal["reset", "cut", "drip"]


Script = Callable[[int, dict[str, Any]], Reply | Broken]


@dataclass
class Endpoint:
    """The server: `bodies` are the requests that it got, in order; `script(number, body)` answers them."""

    script: Script
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "m", "object": "model", "owned_by": "them"}])
    refuse_key: bool = False
    listing: Reply | None = None  # instead of `models`
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)  # one-token questions, answered by `serves`
    serves: Callable[[], Reply | Broken] = field(default_factory=lambda: lambda: answer("Hi"))
    delay_s: float = 0.0  # of an answer; may be changed meanwhile
    paid_tokens: int = 0  # of all answers, the one-token questions' too
    url: str = ""

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        if self.listing is not None:
            return await _send(request, self.listing)
        if self.refuse_key:
            return web.json_response({"error": {"message": "bad key"}}, status=401)
        return web.json_response({"object": "list", "data": self.models})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.refuse_key:
            return web.json_response({"error": {"message": "bad key"}}, status=401)
        if is_question(body):
            self.questions.append(body)
            reply = self.serves()
        else:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            reply = self.script(len(self.bodies) - 1, body)
            began = time.monotonic()
            while time.monotonic() - began < self.delay_s:
                await asyncio.sleep(0.02)
        if not isinstance(reply, Broken) and isinstance(reply[1], dict):
            usage = reply[1].get("usage")
            self.paid_tokens += usage.get("total_tokens", 0) if isinstance(usage, dict) else 0
        return await _send(request, reply)


def is_question(body: dict[str, Any]) -> bool:
    """Return whether a request is the shortest question there is, by which the engine finds out whether one serves."""
    return [turn["content"] for turn in body["messages"]] == ["Hello"] and body.get("max_tokens") == 1


async def _send(request: web.Request, reply: Reply | Broken) -> web.StreamResponse:
    assert request.transport is not None
    if isinstance(reply, Broken):
        if reply.how == "reset":
            request.transport.abort()
            return web.Response()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if reply.how == "cut":
            response.content_length = 1000
            await response.prepare(request)
            await response.write(b'{"choices": [')
            request.transport.abort()
            return response
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"\n")
                await asyncio.sleep(0.01)
        return response
    status, body, headers = reply
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    kind = (
        {}
        if "Content-Type" in headers
        else {"Content-Type": "text/html" if isinstance(body, str) else "application/json"}
    )
    return web.Response(status=status, body=data, headers={**headers, **kind})


@asynccontextmanager
async def serve(
    endpoint: Endpoint, *, unix_socket: str | None = None, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[Endpoint]:
    """Serve on a free port of loopback, or on a socket of Unix, while the block runs."""
    app = web.Application()
    app.router.add_get("/v1/models", endpoint.list_models)
    app.router.add_post("/v1/chat/completions", endpoint.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    if unix_socket is not None:
        await web.UnixSite(runner, unix_socket).start()
    else:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        endpoint.url = f"http{'s' if ssl_context else ''}://127.0.0.1:{port}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


def answer(text: str | None = "hello", finish_reason: str = "stop", **usage: Any) -> Reply:
    """Return a good answer."""
    counts = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, **usage}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": counts}
    return 200, body, {}


def failure(status: int, message: str = "no", headers: dict[str, str] | None = None) -> Reply:
    """Return an error answer."""
    return status, {"error": {"message": message, "type": "t", "code": None}}, headers or {}
