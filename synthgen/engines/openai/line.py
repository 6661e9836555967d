"""A line to a server: one address with one key. It sends bytes and gives back what came, whatever that is."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from synthgen.config import EndpointConfig
from synthgen.engines.openai.rate_limit import RateLimit
from synthgen.engines.openai.reply import Lost, Reply
from synthgen.engines.openai.window import Window
from synthgen.errors import ConfigError, one_line

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

MOST_BYTES = 64 * 2**20
CONNECT_S = 30.0
_REDIRECTS = frozenset({301, 302, 307, 308})
_MOST_REDIRECTS = 3


class Line:
    """One address with one key.

    Attributes:
        window, limit: how many requests at once, and in a minute.
        served_at: when it last served a request (monotonic), 0: never yet.
        failures: passing failures since then.
        closed: why it is used no more, empty: it is.
        down_since: when it was found to serve nobody (monotonic), 0: it serves.
        down_why: what it says or does meanwhile.
        asking: the task that asks whether it serves again.
    """

    def __init__(self, endpoint: EndpointConfig, base_url: str, key_name: str, clock: Clock, sleep: Sleep) -> None:
        self.base_url = base_url.rstrip("/")
        self.key_name = key_name
        self.window = Window(endpoint.max_concurrency, clock, sleep)
        self.limit = RateLimit(endpoint, clock, sleep)
        self.served_at = 0.0
        self.failures = 0
        self.closed = ""
        self.down_since = 0.0
        self.down_why = ""
        self.asking: asyncio.Task[bool] | None = None
        self._endpoint = endpoint
        self._key = (os.environ.get(key_name) or "").strip()
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Make ready to send. Raises ConfigError for an address, a header or a certificate that cannot be used."""
        import httpx

        endpoint = self._endpoint
        if not self._key.isascii() or any(ord(char) < 32 for char in self._key):
            raise ConfigError(f"{self.key_name} holds characters that no key has; export {self.key_name}=… again")
        try:
            transport = httpx.AsyncHTTPTransport(uds=endpoint.unix_socket) if endpoint.unix_socket else None
            self._client = httpx.AsyncClient(
                headers={"Authorization": f"Bearer {self._key or 'none'}", **_read_headers(endpoint)},
                timeout=httpx.Timeout(None, connect=min(CONNECT_S, endpoint.timeout_s)),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=endpoint.max_concurrency),
                verify=_make_context(endpoint),
                proxy=endpoint.proxy or None,
                transport=transport,
            )
            url = httpx.URL(self.base_url)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise ConfigError(f"endpoint.base_url={self.base_url} cannot be used: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"endpoint.base_url={self.base_url} is no address; give such as http://localhost:8000/v1")

    async def close(self) -> None:
        """Close the connections."""
        if self.asking is not None:
            self.asking.cancel()
        if self._client is not None:
            await self._client.aclose()

    async def get(self, path: str, timeout_s: float) -> Reply | Lost:
        """Return what came for a GET."""
        return await self._send("GET", path, None, timeout_s)

    async def post(self, path: str, body: dict[str, Any], timeout_s: float) -> Reply | Lost:
        """Return what came for a POST of JSON within `timeout_s` of wall time, from the first byte to the last."""
        return await self._send("POST", path, json.dumps(body).encode(), timeout_s)

    def hide_key(self, text: str) -> str:
        """Return `text` without the key, which some servers repeat."""
        return text.replace(self._key, "…") if len(self._key) > 6 else text

    async def _send(self, method: str, path: str, content: bytes | None, timeout_s: float) -> Reply | Lost:
        import httpx

        try:
            async with asyncio.timeout(timeout_s):
                return await self._send_and_follow(method, f"{self.base_url}{path}", content)
        except TimeoutError:
            return Lost(f"no whole answer in endpoint.timeout_s={timeout_s:g}", timed_out=True)
        except httpx.LocalProtocolError as error:  # a header that HTTP does not allow
            raise ConfigError(
                f"{self.key_name} or endpoint.extra_headers hold what no HTTP header can: {one_line(error)}"
            ) from error
        except httpx.DecodingError as error:
            return Reply(200, f"(compressed, and broken: {one_line(error)})".encode())
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Lost(one_line(error))

    async def _send_and_follow(self, method: str, url: str, content: bytes | None) -> Reply:
        """Send, and follow redirects on the same host; one to another host is left to the user, and so is the key."""
        reply = await self._send_once(method, url, content)
        for _ in range(_MOST_REDIRECTS):
            target = _find_target(url, reply)
            if target is None:
                break
            url = target
            reply = await self._send_once(method, url, content)
        if reply.status in _REDIRECTS:
            words = f"it points to {reply.headers.get('location', 'nowhere')}; set endpoint.base_url to that"
            return Reply(reply.status, words.encode(), reply.headers)
        return reply

    async def _send_once(self, method: str, url: str, content: bytes | None) -> Reply:
        assert self._client is not None
        headers = {"Content-Type": "application/json"} if content is not None else {}
        async with self._client.stream(method, url, content=content, headers=headers) as response:
            pieces: list[bytes] = []
            size = 0
            async for piece in response.aiter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    break
            names = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status_code, b"".join(pieces), names)


def make_lines(endpoint: EndpointConfig, clock: Clock, sleep: Sleep) -> list[Line]:
    """Return a line per address and key."""
    urls = list(dict.fromkeys([endpoint.base_url, *endpoint.base_urls]))
    keys = [name.strip() for name in endpoint.api_key_env.split(",") if name.strip()] or ["OPENAI_API_KEY"]
    return [Line(endpoint, url, key, clock, sleep) for url in urls if url for key in keys]


def _find_target(url: str, reply: Reply) -> str | None:
    """Return where a redirect leads, where that is the same host; None: it is none, or leads elsewhere."""
    import httpx

    if reply.status not in _REDIRECTS or "location" not in reply.headers:
        return None
    try:
        source, target = httpx.URL(url), httpx.URL(url).join(reply.headers["location"])
    except (httpx.InvalidURL, ValueError):
        return None
    safe = target.scheme == source.scheme or target.scheme == "https"
    return str(target) if target.host == source.host and safe else None


def _read_headers(endpoint: EndpointConfig) -> dict[str, str]:
    """Return the extra headers; `env:NAME` stands for what the environment holds, so that no file has the secret."""
    found = {}
    for name, value in endpoint.extra_headers.items():
        text = str(value)
        if text.startswith("env:"):
            variable = text.removeprefix("env:")
            if variable not in os.environ:
                raise ConfigError(f"endpoint.extra_headers.{name}={text}: {variable} is not set; export {variable}=…")
            text = os.environ[variable]
        found[name] = text
    return found


def _make_context(endpoint: EndpointConfig) -> ssl.SSLContext | bool:
    if not endpoint.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=os.path.expanduser(endpoint.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"endpoint.ca_file={endpoint.ca_file} cannot be read: {one_line(error)}") from error
