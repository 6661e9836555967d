"""Evaluations that are done: one file per model and task, whose name says all that its figures depend on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.errors import ConfigError
from synthgen.models.locate import BUILTIN_IDS, ensure_builtin
from synthgen.records import stable_hex
from synthgen.recovery.environment import PACKAGES
from synthgen.recovery.settings import Preset, RecoveryConfig, Row
from synthgen.recovery.statistics import Moments, measure

SAMPLES, SAMPLE_BYTES = 256, 1 << 18
"""What is read of a large file: two quantizations of one size differ all over."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models.

    Attributes:
        key: `base` or `model`, as the configuration has it. name: as it was given. path: what is loaded.
        made_of: what tells it from another checkpoint under the same name.
    """

    key: str
    name: str
    path: str
    revision: str | None
    made_of: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one task.

    Attributes:
        figure: lm-eval's. num_fewshot: of its tasks. samples: (hash, sum, count) by document; None: it is no mean.
    """

    figure: float
    metric: str
    filter: str
    num_fewshot: tuple[int, ...]
    samples: dict[str, tuple[str, float, float]] | None


def make_side(config: RecoveryConfig, key: str) -> Side:
    """Return the side `key` of the comparison, `base` or `model`."""
    name, revision = getattr(config, key), getattr(config, f"{key}_revision")
    path = str(ensure_builtin(name)) if name in BUILTIN_IDS else name
    if Path(path).is_dir():
        path, revision = str(Path(path).resolve()), None
        made_of = {"files": _hash_checkpoint(Path(path))}
    else:
        made_of = {"id": path, "revision": revision}
    return Side(key, name, path, revision, made_of)


def describe_inputs(
    config: RecoveryConfig, side: Side, preset: Preset, row: Row, tasks_hash: str | None = None
) -> dict[str, Any]:
    """Return what the figures of `row` depend on: nothing that only changes speed.

    Args:
        tasks_hash: of `tasks_dir` (`hash_tasks`): any of its files may be a part of any task, of lm-eval's own too.
    """
    return {
        "model": side.made_of,
        "task": row.task,
        "num_fewshot": row.num_fewshot,
        "metric": row.metric,
        "filter": row.filter,
        "apply_chat_template": preset.apply_chat_template,
        "fewshot_as_multiturn": preset.fewshot_as_multiturn,
        "limit": config.limit,
        "seed": config.seed,
        "backend": config.backend.value,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "model_args": dict(config.model_args),
        "tasks_dir": tasks_hash,
        "packages": PACKAGES[0],
    }


def name_file(directory: Path, side: Side, made_of: Mapping[str, Any]) -> Path:
    """Return where the evaluation lies, or will."""
    model = f"{_slug(side.name.rstrip('/').rpartition('/')[2])}-{stable_hex(made_of['model'], digits=8)}"
    return directory / model / f"{_slug(str(made_of['task']))}-{stable_hex(dict(made_of), digits=12)}.json"


def read_evaluation(file: Path) -> Evaluation | None:
    """Return what a file holds, None where it is not there.

    Raises:
        ConfigError: it is no evaluation.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        samples = found["samples"]
        return Evaluation(
            figure=float(found["figure"]),
            metric=found["metric"],
            filter=found["filter"],
            num_fewshot=tuple(found["num_fewshot"]),
            samples=samples and {name: (digest, total, count) for name, digest, total, count in samples},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is damaged; remove it, and the task is evaluated again") from error


def pair(base: Evaluation, other: Evaluation) -> Moments | None:
    """Return the moments of two evaluations of the same documents, None where they cannot be paired."""
    if not base.samples or not other.samples or base.samples.keys() != other.samples.keys():
        return None
    both = [(base.samples[name], other.samples[name]) for name in base.samples]
    if any(left[0] != right[0] or left[2] != right[2] for left, right in both):
        return None
    left, right, counts = (
        np.array(values, dtype=np.float64)
        for values in zip(*((one[1], two[1], one[2]) for one, two in both), strict=True)
    )
    return measure(left, right, counts)


def hash_tasks(config: RecoveryConfig, outputs: Sequence[Path]) -> str | None:
    """Return a hash of all files of `tasks_dir` but for what lies below `outputs`, None where there is none."""
    if config.tasks_dir is None:
        return None
    directory, digest = Path(config.tasks_dir).resolve(), hashlib.sha256()
    ours = [output.resolve() for output in outputs]
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts or any(path.is_relative_to(one) for one in ours):
            continue
        digest.update(f"{path.relative_to(directory)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _hash_checkpoint(directory: Path) -> str:
    """Return a hash of a checkpoint's files: of small ones all, of large ones their sizes and SAMPLES pieces."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as stream:
            if size <= SAMPLES * SAMPLE_BYTES:
                digest.update(stream.read())
                continue
            for place in range(SAMPLES):
                stream.seek(place * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
