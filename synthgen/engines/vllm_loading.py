"""What vLLM is doing while it loads a model: its log in, a phase out. Nothing in vLLM is touched.

vLLM's engine is another process that says what it is at in its log only, which is this process's own output
(`<run.dir>/logs/<replica>.log`). Bytes of a download are what the Hub's cache has grown by.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

PHASES = (
    (re.compile(r"Initializing a V1 LLM engine"), "starting the engine"),
    (re.compile(r"Starting to load model"), "weights"),
    (re.compile(r"Loading \w+ checkpoint shards:\s+(\d+)%"), "weights"),
    (re.compile(r"Loading weights took"), "preparing the weights"),
    (re.compile(r"[Cc]ompil\w+ (a |the )?(graph|range)|torch\.compile|Dynamo|for the compilation"), "compilation"),
    (re.compile(r"Capturing CUDA graph"), "CUDA graphs"),
    (re.compile(r"Warming up model(?! for the comp)|KV cache size"), "warm-up"),
)  # fmt: skip
"""What a line of vLLM 0.32's log says of the phase that begins with it; the last that matches counts."""
NOISE = re.compile(r"Initializing a V1 LLM engine|disabling torch\.compile|Enforce eager")
"""Lines that hold the whole configuration, or say that something is off: they speak of phases that may never come."""
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Loading:
    """A phase of loading, how long it has lasted in s, and bytes that were downloaded so far (0: none)."""

    phase: str = ""
    seconds: float = 0.0
    bytes: int = 0


class LoadingWatch:
    """Follows the loading of one model.

    Args:
        log_path: where this process's output goes; None: nowhere that can be read.
        model_id: whose download is counted, if it is a Hub id.
    """

    def __init__(self, log_path: str | None, model_id: str) -> None:
        self._log_path = log_path
        self._offset = os.path.getsize(log_path) if log_path and os.path.exists(log_path) else 0
        self._phase, self._detail = "starting vLLM", ""
        self._since = time.monotonic()
        self._blobs = _find_blobs(model_id)
        self._had = _count_bytes(self._blobs)

    def look(self) -> Loading:
        """Return the phase by what was logged since the last look."""
        for line in self._read_lines():
            self._take(line)
        got = max(0, _count_bytes(self._blobs) - self._had)
        phase, detail = self._phase, self._detail
        if (got and phase in ("starting vLLM", "starting the engine")) or (got and phase == "weights" and not detail):
            phase, detail = "download", f"{got / 1e6:,.0f} MB"
        return Loading(f"{phase} {detail}".strip(), time.monotonic() - self._since, got)

    def _take(self, line: str) -> None:
        known = PHASES[:1] if NOISE.search(line) else PHASES
        for pattern, phase in known:
            match = pattern.search(line)
            if match is None:
                continue
            if phase != self._phase:
                self._phase, self._since = phase, time.monotonic()
            self._detail = f"{match[1]}%" if phase == "weights" and match.lastindex else ""

    def _read_lines(self) -> list[str]:
        if self._log_path is None:
            return []
        with contextlib.suppress(OSError), open(self._log_path, "rb") as file:
            file.seek(self._offset)
            data = file.read(MOST_BYTES)
            self._offset += len(data)
            return re.split(r"[\r\n]+", data.decode("utf-8", "replace"))
        return []


def _find_blobs(model_id: str) -> Path | None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model_id) or Path(model_id).exists():
        return None
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{model_id.replace('/', '--')}" / "blobs"


def _count_bytes(directory: Path | None) -> int:
    if directory is None:
        return 0
    try:
        return sum(entry.stat().st_size for entry in os.scandir(directory))
    except OSError:
        return 0
