"""A proxy before an S3-speaking server that makes it stumble: latency, 503, 429, 403, resets, slow and cut answers.

A `Plan` says what befalls each request, by its kind. `tests/ledger` plans each fault; `benchmarks.chaos` draws them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

KINDS = ("get", "head", "list", "put", "create", "swap", "delete")
"""`create`: a PUT that may only make a new object; `swap`: one that may only replace a known version."""

FAULTS = ("latency", "503", "429", "403", "reset_before", "reset_after", "slow", "cut")
"""`reset_before`: the server never sees the request. `reset_after`: it does what was asked, and its answer is lost.
`cut`: the connection breaks in the middle of the answer."""

LATENCY_S = 0.3
SLOW_PAUSE_S = 0.02
_BODIES = {
    "503": ("503 Service Unavailable", "SlowDown", "Please reduce your request rate."),
    "429": ("429 Too Many Requests", "TooManyRequests", "Please reduce your request rate."),
    "403": ("403 Forbidden", "AccessDenied", "Access Denied"),
}

Plan = Callable[[str, str], "str | None"]
"""(kind, path) of a request → the fault that befalls it, None for none. Called in the proxy's thread."""


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    head: bytes
    body: bytes
    headers: dict[str, str]

    @property
    def kind(self) -> str:
        parts = urlsplit(self.target)
        if self.method == "GET":
            return "list" if "list-type=" in parts.query else "get"
        if self.method == "PUT":
            if "if-none-match" in self.headers:
                return "create"
            return "swap" if "if-match" in self.headers else "put"
        if self.method == "POST" and "delete" in parts.query:
            return "delete"
        return self.method.lower()


class FaultProxy:
    """Stands before `upstream` (`http://host:port`) at `url`. What it did is counted by (kind, fault) in `done`."""

    def __init__(self, upstream: str, plan: Plan | None = None) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.plan: Plan = plan or (lambda kind, path: None)
        self.done: Counter[tuple[str, str | None]] = Counter()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fault-proxy", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            request = await _read_request(reader)
            if request is not None:
                fault = self.plan(request.kind, urlsplit(request.target).path)
                self.done[request.kind, fault] += 1
                await self._answer(request, fault, writer)
        with contextlib.suppress(Exception):
            writer.close()

    async def _answer(self, request: _Request, fault: str | None, writer: asyncio.StreamWriter) -> None:
        if fault in _BODIES:
            writer.write(_refusal(fault, with_body=request.method != "HEAD"))
            await writer.drain()
            return
        if fault == "reset_before":
            _reset(writer)
            return
        if fault == "latency":
            await asyncio.sleep(LATENCY_S)
        answer = await self._forward(request)
        if fault == "reset_after":
            _reset(writer)
        elif fault == "cut":
            writer.write(answer[: max(1, len(answer) - max(1, len(answer) // 4))])
            await writer.drain()
            _reset(writer)
        elif fault == "slow":
            step = max(1, len(answer) // 10)
            for start in range(0, len(answer), step):
                writer.write(answer[start : start + step])
                await writer.drain()
                await asyncio.sleep(SLOW_PAUSE_S)
        else:
            writer.write(answer)
            await writer.drain()

    async def _forward(self, request: _Request) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """Return the next request with its body; its head asks the server to close, so that an answer has an end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    fields = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    kept = [line for line in lines if line and line.partition(":")[0].lower() not in ("connection", "expect")]
    head = "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1")
    return _Request(method, target, head, body, headers)


def _refusal(fault: str, *, with_body: bool) -> bytes:
    status, code, message = _BODIES[fault]
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = (f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join([*head, "", ""]).encode() + (body if with_body else b"")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with a RST, as a machine that goes away does."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """Run an S3-speaking server on loopback and give its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_environment(endpoint: str) -> dict[str, str]:
    """Return the environment variables with which an S3 client finds and uses `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
