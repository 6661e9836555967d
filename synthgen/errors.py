"""Errors, by who can mend them: the user (configuration, input), one request, an engine, or the run."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from synthgen import DISTRIBUTION

if TYPE_CHECKING:
    from synthgen.records import Bill


class SynthgenError(Exception):
    """Anything that synthgen reports as one line. `exit_code` becomes the status of the process."""

    exit_code = 1


class ConfigError(SynthgenError):
    """A configuration or an input file that cannot work; the message names the key, the value and the mend."""

    exit_code = 2


class MissingExtraError(ConfigError):
    """A package that an optional extra installs is absent."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: {install_command(extra)}")
        self._arguments = (package, extra)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return (MissingExtraError, self._arguments)  # it travels from replicas to the driver


class RequestError(SynthgenError):
    """One request cannot be served. Its row is quarantined and the others go on.

    Args:
        reason: a short slug that is counted in the report, such as `prompt_too_long`.
        message: what happened, in one line.
        retryable: whether the same request may succeed on another day (a time-out may, a too long prompt may not).
        raw: the beginning of an answer that could not be used.
        bill: what an endpoint counted for it ; None where nothing is billed.
    """

    def __init__(
        self, reason: str, message: str, *, retryable: bool = False, raw: str = "", bill: Bill | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.raw = raw
        self.bill = bill


class EngineDeadError(SynthgenError):
    """The engine can serve nothing any more. Its replica exits, and its tasks go back to the scheduler."""


class RunFailedError(SynthgenError):
    """The run ended before it was complete. What was committed is kept, and the same command goes on from it."""


class StorageError(RunFailedError):
    """An object store refused what was asked of it, or gave no usable answer for as long as it was waited for.

    Args:
        message: the whole line.
        why: what the store said, in a few words.
    """

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why or message


class RunStoppedError(SynthgenError):
    """The run was asked to stop (signal, budget). What was committed is kept, and the same command goes on from it."""

    exit_code = 130


class PublishError(SynthgenError):
    """The data set is not where it should go, whole and checked. The same command sends what is missing."""


def first_line(error: BaseException, limit: int = 400) -> str:
    """Return the first line that `error` says, at most `limit` characters of it; its type's name if it says nothing."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (text or type(error).__name__)[:limit]


def one_line(error: BaseException, limit: int = 400) -> str:
    """Return all that `error` says in one line, at most `limit` characters of it; its type's name if it says nothing.

    For errors that say what is wrong in a later line, as pydantic's do.
    """
    return " ".join(str(error).split())[:limit] or type(error).__name__


def install_command(extra: str) -> str:
    """Return the command that adds an extra of this project to the environment that runs.

    It names the place that the installed code came from: the checkout, the wheel's file, or the index that had it.
    A name alone would be looked up on whatever index is configured, where it may be another project's.

    Args:
        extra: `cpu`, `gpu` or `train`.
    """
    try:
        text = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return _setup_command(extra)
    if text is None:
        return f"pip install '{DISTRIBUTION}[{extra}]'"
    origin = json.loads(text)
    if "archive_info" not in origin:
        return _setup_command(extra)
    url = urlsplit(origin["url"])
    return f"pip install '{unquote(url.path) if url.scheme == 'file' else origin['url']}[{extra}]'"


def _setup_command(extra: str) -> str:
    return f"make setup KIND={extra}" if extra in ("cpu", "gpu") else "make setup"
