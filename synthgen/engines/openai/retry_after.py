"""How long a server asks to wait: in seconds, as a date, in the headers of rate limits, or in its message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 7 * 86400.0
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(milliseconds?|ms|hours?|h|minutes?|min|m|seconds?|secs?|s|days?|d)", re.I)
_DURATION = r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|hours?|h|minutes?|min|m|seconds?|secs?|s)\s*)+)"
_IN_MESSAGE = re.compile(
    rf"(?:try again|retry|retry after|retry in|wait|available|resets?|reset after)\D{{0,20}}?{_DURATION}"
    rf"|\"?retry_?delay\"?:? \"?{_DURATION}|retry[-_ ]after[\"':= ]+(\d+(?:\.\d+)?)",
    re.IGNORECASE,
)


def find_wait_s(headers: Mapping[str, str], message: str, now: float) -> float | None:
    """Return how long to wait, s (0 … LONGEST_S); None: the answer does not say.

    Args:
        headers: names in lower case.
        now: the Unix time, s.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    found: list[float | None] = [
        None if milliseconds is None else milliseconds / 1000,
        _read_moment(headers.get("retry-after"), now),
        _reset(headers, now),
        _in_message(message),
    ]
    first = next((seconds for seconds in found if seconds is not None), None)
    return None if first is None else min(max(0.0, first), LONGEST_S)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return when the limits that are used up (all, where none says so) are reset."""
    resets: list[float] = []
    used_up: list[float] = []
    for name, value in headers.items():
        if "ratelimit-reset" not in name:
            continue
        seconds = _read_moment(value, now)
        if seconds is None:
            continue
        resets.append(seconds)
        if _number(headers.get(name.replace("reset", "remaining"))) == 0:
            used_up.append(seconds)
    return max(used_up or resets, default=None)


def _read_moment(text: str | None, now: float) -> float | None:
    """Return the seconds until a moment that is given as seconds, a duration, a date, or a Unix time in s or ms."""
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        if number > 1e11:
            return number / 1000 - now
        return number - now if number > 1e8 else number
    duration = _read_duration(text)
    if duration is not None:
        return duration
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return read(text.strip()).timestamp() - now
        except (ValueError, TypeError, OverflowError, OSError, IndexError):
            continue
    return None


def _in_message(message: str) -> float | None:
    found = _IN_MESSAGE.search(message[:4000])
    if found is None:
        return None
    return _number(found[3]) if found[3] else _read_duration(found[1] or found[2])


def _read_duration(text: str) -> float | None:
    """Return such as `1m30s`, `553ms`, `6m0s` or `20 seconds` in seconds."""
    text = text.strip()
    if not re.fullmatch(rf"{_DURATION}", text, re.IGNORECASE):
        return None
    total = 0.0
    for number, unit in _PART.findall(text):
        name = "ms" if unit.lower().startswith(("ms", "milli")) else unit[0].lower()
        total += float(number) * _UNITS_S[name]
    return total if math.isfinite(total) else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None and len(text) < 40 else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None
