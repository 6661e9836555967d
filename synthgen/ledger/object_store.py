"""A run's files in an object store. What may pass is tried again for minutes; what may not is one line of ours.

The client's own retries are off: it would give up within seconds, and would hide that a request which was refused
because the file exists had been sent before, and may have been the one that made it.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from synthgen.errors import ConfigError, StorageError, first_line
from synthgen.ledger.directories import replace_files

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 15.0
SAY_AFTER_S = 5.0
"""Trouble that passes sooner is not worth a line."""
SAY_EVERY_S = 30.0
MAY_PASS = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may succeed."""

_STATUS = re.compile(r"status code: (\d{3})(?: ([A-Za-z ]+))?")
_CODE = re.compile(r"<Code>([^<]+)</Code>")
Answer = TypeVar("Answer")


class ObjectStorage:
    """A prefix in an object store. Commit: one conditional PUT (`If-None-Match: *`: S3, GCS and Azure all have it).

    Args:
        url: of the prefix.
        retry_s: how long what may pass (5xx, 429, cut connections, no answer) is tried again, s.
        key: of the configuration that holds the URL, for messages.
    """

    def __init__(self, url: str, *, retry_s: float, key: str) -> None:
        from obstore.store import from_url

        self.root: Path | None = None
        self.url = url.rstrip("/")
        self._retry_s = retry_s
        self._key = key
        self._store: Any
        make: Any = from_url  # its types know one cloud at a time
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        options: dict[str, Any] = {"allow_http": True} if endpoint.startswith("http://") else {}
        config: dict[str, Any] = {"aws_endpoint": endpoint} if endpoint and url.startswith("s3") else {}
        try:
            self._store = make(
                self.url,
                config=config or None,
                client_options=options or None,
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=60)},
            )
        except Exception as error:  # obstore has one class of error per cloud
            why = first_line(error, 2000)
            raise ConfigError(f"{key}={url!r} is not an object store that can be opened: {why}") from error

    def hurried(self, retry_s: float) -> ObjectStorage:
        return ObjectStorage(self.url, retry_s=min(retry_s, self._retry_s), key=self._key)

    def read(self, path: str) -> bytes:
        import obstore

        return self._ask("read", path, lambda tries: bytes(obstore.get(self._store, path).bytes()))

    def exists(self, path: str) -> bool:
        import obstore

        try:
            self._ask("looked up", path, lambda tries: obstore.head(self._store, path))
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        return sorted(self.measure(prefix))

    def measure(self, prefix: str) -> dict[str, int]:
        import obstore

        wanted = prefix.strip("/")

        def ask(tries: int) -> dict[str, int]:
            return {meta["path"]: meta["size"] for chunk in obstore.list(self._store, wanted or None) for meta in chunk}

        return self._ask("listed", f"{wanted}/", ask)

    def create(self, path: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def ask(tries: int) -> bool:
            try:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                try:
                    found = bytes(obstore.get(self._store, path).bytes())
                except FileNotFoundError:  # two writers met, and the store let neither win
                    raise _MayPassError("another write of it was under way") from error
                # An earlier try may have been written, and only its answer lost: then we were first.
                return tries > 0 and found == data
            return True

        return self._ask("written", path, ask)

    def replace(self, path: str, data: bytes) -> None:
        import obstore

        self._ask("written", path, lambda tries: obstore.put(self._store, path, data, use_multipart=False))

    def swap(self, path: str, old: bytes, new: bytes) -> bool:
        import obstore
        from obstore.exceptions import PreconditionError

        def ask(tries: int) -> bool:
            try:
                current = obstore.get(self._store, path)
                found = bytes(current.bytes())
                if tries and found == new:  # an earlier try was written, and only its answer lost
                    return True
                if found != old:
                    return False
                obstore.put(self._store, path, new, mode={"e_tag": current.meta["e_tag"]}, use_multipart=False)
            except (FileNotFoundError, PreconditionError):
                return False
            return True

        return self._ask("written", path, ask)

    def delete(self, path: str) -> None:
        self._delete(path, [path])

    def delete_tree(self, prefix: str) -> None:
        paths = self.list(prefix)
        if paths:
            self._delete(f"{prefix.strip('/')}/", paths)

    def replace_directory(self, path: str, source: Path, *, last: Sequence[str], keep: Callable[[str], bool]) -> None:
        replace_files(self, path, source, last=last, keep=keep)

    def _delete(self, what: str, paths: Sequence[str]) -> None:
        import obstore

        def ask(tries: int) -> None:
            try:
                obstore.delete(self._store, [*paths])
            except FileNotFoundError:
                if len(paths) > 1:  # some clouds take one at a time, and an earlier try took some of them
                    for path in paths:
                        self._delete(path, [path])

        self._ask("deleted", what, ask)

    def _ask(self, done: str, path: str, ask: Callable[[int], Answer]) -> Answer:
        """Return what `ask(tries so far)` returns, tried again while what it raises may pass.

        Raises:
            FileNotFoundError: there is no such file. StorageError: refused, or no answer for `retry_s`.
        """
        from obstore.exceptions import BaseError

        began = time.monotonic()
        said_at = began + SAY_AFTER_S - SAY_EVERY_S
        tries = 0
        while True:
            try:
                return ask(tries)
            except FileNotFoundError as error:
                if done in ("read", "looked up") and "NoSuchBucket" not in str(error):
                    raise
                raise self._refused(done, path, error) from error
            except (BaseError, _MayPassError, OSError) as error:
                if not _may_pass(error):
                    raise self._refused(done, path, error) from error
                last = error
            tries += 1
            now = time.monotonic()
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries, 16)) * random.uniform(0.5, 1.0)
            if now + pause - began > self._retry_s:
                raise StorageError(
                    f"{self._key}={self.url}: {path} could not be {done} in storage.retry_s={self._retry_s:g} s: "
                    f"{describe(last)}; what was committed is kept, start the same command again once it answers",
                    describe(last),
                ) from last
            if now - said_at >= SAY_EVERY_S:
                said_at = now
                logger.warning(
                    "%s=%s: %s could not be %s yet (%s); tried again for up to storage.retry_s=%g s",
                    *(self._key, self.url, path, done, describe(last), self._retry_s),
                )
            time.sleep(pause)

    def _refused(self, done: str, path: str, error: BaseException) -> StorageError:
        return StorageError(
            f"{self._key}={self.url}: {path} could not be {done}: the store says {describe(error)}; what was committed "
            "is kept, check the bucket and the rights of these credentials, and start the same command again",
            describe(error),
        )


class _MayPassError(Exception):
    """Something that the client reports as final, and that is not."""


def describe(error: BaseException) -> str:
    """Return what went wrong with a request in a few words: the status and the store's code, or the client's words."""
    text = first_line(error, 2000)
    status = _STATUS.search(text)
    if status is None:
        return text.rpartition(" - ")[2][:200] or type(error).__name__
    code = _CODE.search(str(error))
    return " ".join(part.strip() for part in (status[1], status[2] or "", f"({code[1]})" if code else "") if part)


def _may_pass(error: BaseException) -> bool:
    from obstore.exceptions import BaseError, GenericError, JoinError

    if isinstance(error, BaseError) and not isinstance(error, GenericError | JoinError):
        return False  # a class of its own: no rights, unknown user, bad path, not supported
    status = _STATUS.search(first_line(error, 2000))
    return status is None or int(status[1]) >= 500 or int(status[1]) in MAY_PASS
