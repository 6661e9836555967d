"""Where a model's numbers come from: the catalog, a built-in, a directory, an object store or the Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError, first_line
from synthgen.models.architecture import Architecture, read_architecture
from synthgen.models.reach import GIVE_NUMBERS, check_reachable


def resolve_architecture(model: ModelConfig) -> Architecture:
    """Return the shape of `model`'s checkpoint.

    `model.architecture` goes first; what it leaves out is read from the checkpoint's `config.json`. Only that one file
    is ever fetched.

    Raises:
        ConfigError: there is no such file, it cannot be reached, or its numbers cannot be used.
    """
    config: Mapping[str, Any] = model.architecture
    source = f"the catalog's architecture of {model.name}"
    if not (config.get("hidden_size") or config.get("text_config")):
        source, found = _read_config(model)
        config = {**found, **model.architecture}
    return read_architecture(config, dtype=model.dtype, quantization=model.quantization, source=source)


def _read_config(model: ModelConfig) -> tuple[str, Mapping[str, Any]]:
    from synthgen.models.gguf import describe_config, find_gguf, serves_files

    model_id = model.id
    source = find_gguf(model)
    if source is not None:
        return model_id, describe_config(source.read_header(), as_file=serves_files())
    if model_id in (MISSING, ""):
        raise ConfigError(
            "model.id is not set; give a Hub id or a directory, such as generators.main.model.id=org/name"
        )
    if model_id.startswith("builtin:"):
        from synthgen.models.locate import ensure_builtin

        path = ensure_builtin(model_id) / "config.json"
    elif "://" in model_id:
        return _read_remote(model_id)
    elif Path(model_id).expanduser().is_dir():
        path = Path(model_id).expanduser() / "config.json"
    elif model_id.startswith(("/", "./", "../", "~")):
        raise ConfigError(f"model.id={model_id} is not a directory")
    else:
        path = _fetch_from_hub(model)
    try:
        return str(path), _parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"model.id={model_id}: cannot read {path} ({error.strerror}); {GIVE_NUMBERS}") from error


def _parse(data: bytes, source: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise ConfigError(f"{source} is not JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"{source} holds no JSON object")
    return parsed


def _read_remote(url: str) -> tuple[str, Mapping[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    source = f"{url.rstrip('/')}/config.json"
    try:
        filesystem, path = FileSystem.from_uri(source)
        with filesystem.open_input_stream(path) as stream:
            return source, _parse(stream.read(), source)
    except (OSError, ArrowException) as error:
        raise ConfigError(f"model.id={url}: cannot read {source} ({first_line(error)}); {GIVE_NUMBERS}") from error


def _fetch_from_hub(model: ModelConfig) -> Path:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    repo = model.id
    if repo.count("/") != 1:
        raise ConfigError(f"model.id={model.id} is neither a Hub id (org/name) nor a directory")
    try:
        cached = try_to_load_from_cache(repo, "config.json", revision=model.revision)
        if isinstance(cached, str):
            return Path(cached)
        check_reachable(constants.ENDPOINT, model.id)
        return Path(hf_hub_download(repo, "config.json", revision=model.revision))
    except GatedRepoError as error:
        raise ConfigError(
            f"model.id={repo} asks you to accept its terms: do so at {constants.ENDPOINT}/{repo}, then set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"model.id={repo}: the Hub has no such model, or HF_TOKEN may not see it; check the name"
        ) from error
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise ConfigError(
            f"model.id={repo}: its config.json cannot be fetched ({first_line(error)}); {GIVE_NUMBERS}"
        ) from error
