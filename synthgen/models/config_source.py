"""Where a checkpoint's `config.json` is: a built-in, a GGUF file's header, a directory, an object store or the Hub."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError, first_line
from synthgen.models.config_file import read_text
from synthgen.models.reach import GIVE_NUMBERS, check_reachable


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint's config.json: where it was found, what it says, and where its weights are."""

    source: str
    config: Mapping[str, Any]
    directory: Path | None = None
    repo: str = ""


def find_config(model: ModelConfig) -> Found:
    """Return the config.json of `model`. Raises ConfigError: there is none, or it cannot be reached or read."""
    from synthgen.models.gguf import describe_config, find_gguf, serves_files

    model_id, repo = model.id, ""
    source = find_gguf(model)
    if source is not None:
        return Found(model_id, describe_config(source.read_header(), as_file=serves_files()))
    if model_id in (MISSING, ""):
        raise ConfigError(
            "model.id is not set; give a Hub id or a directory, such as generators.main.model.id=org/name"
        )
    if model_id.startswith("builtin:"):
        from synthgen.models.locate import ensure_builtin

        path = ensure_builtin(model_id) / "config.json"
    elif "://" in model_id:
        return Found(*_read_remote(model_id))
    elif Path(model_id).expanduser().is_dir():
        path = Path(model_id).expanduser() / "config.json"
    elif model_id.startswith(("/", "./", "../", "~")):
        raise ConfigError(f"model.id={model_id} is not a directory")
    else:
        path = _fetch_from_hub(model, "config.json")
        repo = model_id
    try:
        config = _parse(path.read_bytes(), str(path))
        return Found(str(path), _add_modelopt(model, config, path, repo), path.parent, repo)
    except OSError as error:
        raise ConfigError(f"model.id={model_id}: cannot read {path} ({error.strerror}); {GIVE_NUMBERS}") from error


def _add_modelopt(model: ModelConfig, config: Mapping[str, Any], path: Path, repo: str) -> Mapping[str, Any]:
    """Return `config` with what hf_quant_config.json says, where ModelOpt has written it there alone."""
    beside = path.with_name("hf_quant_config.json")
    if find_quantization(config, read_text(config)):
        return config
    if repo and not beside.is_file() and re.search(r"fp8|fp4|int4|int8|modelopt", repo.lower()):
        with contextlib.suppress(ConfigError):  # most have none
            beside = _fetch_from_hub(model, "hf_quant_config.json")
    if not beside.is_file():
        return config
    return {**config, "quantization_config": {**_parse(beside.read_bytes(), str(beside)), "quant_method": "modelopt"}}


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


def _fetch_from_hub(model: ModelConfig, file: str) -> Path:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    repo = model.id
    if repo.count("/") != 1:
        raise ConfigError(f"model.id={model.id} is neither a Hub id (org/name) nor a directory")
    try:
        cached = try_to_load_from_cache(repo, file, revision=model.revision)
        if isinstance(cached, str):
            return Path(cached)
        check_reachable(constants.ENDPOINT, model.id)
        return Path(hf_hub_download(repo, file, revision=model.revision))
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
            f"model.id={repo}: its {file} cannot be fetched ({first_line(error)}); {GIVE_NUMBERS}"
        ) from error


def find_quantization(*parts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the quantization configs of the parts of a config.json."""
    names = ("quantization_config", "compression_config")
    return [part[name] for part in parts for name in names if isinstance(part.get(name), Mapping)]
