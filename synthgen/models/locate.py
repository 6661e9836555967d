"""From `model.id` to the files: built-in models and GGUF files are made in synthgen's cache, all else stays."""

from __future__ import annotations

from pathlib import Path

from synthgen.config import ModelConfig
from synthgen.models.gguf import ensure_dequantized, find_gguf, serves_files
from synthgen.models.smollm2 import MODEL_ID as SMOLLM2
from synthgen.models.smollm2 import ensure_smollm2, smollm2_directory
from synthgen.models.steps import Report, silent
from synthgen.models.tiny import BUILTIN_MODELS, ensure_builtin_model

BUILTIN_IDS = (*BUILTIN_MODELS, SMOLLM2)


def ensure_builtin(model_id: str, cache_dir: Path | None = None, report: Report = silent) -> Path:
    """Return the directory of a built-in model, made or fetched now if it is not in the cache.

    Raises:
        ConfigError: there is no such model, it cannot be had, or the cache cannot be written.
    """
    if model_id == SMOLLM2:
        return ensure_smollm2(cache_dir, report)
    return ensure_builtin_model(model_id, cache_dir, known=BUILTIN_IDS)


def find_builtin(model_id: str) -> Path | None:
    """Return the directory of a built-in model, None for one that has to be fetched and is not in the cache."""
    if model_id == SMOLLM2 and not smollm2_directory().is_dir():
        return None
    return ensure_builtin(model_id)


def locate_checkpoint(model: ModelConfig, report: Report = silent) -> str:
    """Return what stands for `model.id` when it is loaded: a directory or file here, a Hub id, or a URL.

    Raises:
        ConfigError: a built-in model or a GGUF file cannot be had, or cannot be converted.
    """
    if model.id.startswith("builtin:"):
        return str(ensure_builtin(model.id, report=report))
    source = find_gguf(model)
    if source is None:
        return model.id
    file = source.fetch()
    return str(file) if serves_files() else str(ensure_dequantized(file, report=report))
