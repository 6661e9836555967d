"""Where a model's numbers come from: the catalog, a built-in, a directory, an object store or the Hub.

Weights are counted by the best that can be had: the tensors of a catalog entry, the checkpoint's safetensors headers
(on disk, or fetched as ranges from the Hub), a model that transformers builds without memory, the numbers of
`config.json`.
vLLM is asked only about what is not known here, in a process of its own (`inquiry.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthgen.config import ModelConfig
from synthgen.config.resources import project_path
from synthgen.errors import ConfigError, first_line
from synthgen.models.architecture import KNOWN_FAMILIES, Architecture, list_missing, read_architecture
from synthgen.models.config_file import find_section, merge_overrides, read_text
from synthgen.models.config_source import Found, find_config, find_quantization
from synthgen.models.headers import fetch_table, read_directory
from synthgen.models.inquiry import Answer, ask
from synthgen.models.quantization_readers import knows_method, name_method
from synthgen.models.reach import check_reachable
from synthgen.models.table import Table, parse_table

TENSORS = "tensors"
"""Key of `model.architecture` that names a file of `conf/model/tensors/`, or is the path of one."""
BUILT_IN_LACKS = ("bitsandbytes", "hqq")
"""Methods that vLLM 0.32 does not have built in; `plugin` packages bring them."""
PLUGINS = {"bitsandbytes": "vllm_bnb_plugin"}


def resolve_architecture(model: ModelConfig) -> Architecture:
    """Return the shape of `model`'s checkpoint.

    `model.architecture` goes first; what it leaves out is read from the checkpoint's `config.json`. Weights are never
    fetched.

    Raises:
        UnknownShapeError: a number is missing, and nobody knows it.
        ConfigError: there is no such file, it cannot be reached, its numbers cannot be used, or vLLM refuses it.
    """
    given = bool(model.architecture.get("hidden_size") or find_section(model.architecture))
    found = None
    if not given or list_missing(model.architecture):
        try:
            found = find_config(model)
        except ConfigError:
            if not given:
                raise
    if found is None:
        config = model.architecture
        _check_quantization(model, config, None)
        source = f"the catalog's architecture of {model.name}"
        table, by = _read_tensors(config)
        return _read(model, config, source, table, by)
    config = merge_overrides(found.config, model.architecture)
    table, by = _read_tensors(config)
    if table is None:
        table, by = _read_headers(model, found, config)
    answer = _inquire(config, table, by_vllm=not model.served_by.without_vllm)
    _check_quantization(model, config, answer)
    if answer.filled is not None:
        config = _fill(config, answer.filled)
    if table is None and answer.table is not None:
        table, by = answer.table, "the model that transformers builds of its config.json"
    arch = _read(model, config, found.source, table, by)
    doubts = tuple(f"not told: {trouble}" for trouble in answer.trouble if table is None or not answer.table)
    return replace(arch, notes=(*arch.notes, *doubts)) if doubts and not arch.exact else arch


def _read(
    model: ModelConfig, config: Mapping[str, Any], source: str, table: Table | None, by: str | None
) -> Architecture:
    return read_architecture(
        config, dtype=model.dtype, quantization=model.quantization, source=source, table=table, counted_by=by
    )


def _read_tensors(config: Mapping[str, Any]) -> tuple[Table | None, str | None]:
    name = config.get(TENSORS)
    if not isinstance(name, str) or not name:
        return None, None
    path = Path(name) if name.endswith(".txt") else project_path("conf") / "model" / TENSORS / f"{name}.txt"
    try:
        return _read_lines(str(path), path.stat().st_mtime_ns), "the catalog's list of its tensors"
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.architecture.{TENSORS}={name}: {path} cannot be read ({first_line(error)}); "
            "synthgen.models.refresh writes such files"
        ) from error


@lru_cache(maxsize=256)
def _read_lines(path: str, _changed: int) -> Table:
    return parse_table(Path(path).read_text().splitlines())


def _read_headers(model: ModelConfig, found: Found, config: Mapping[str, Any]) -> tuple[Table | None, str | None]:
    """Return the tensors by the files themselves, where they are on this machine or the Hub serves them."""
    text = read_text(config)
    layers = text.get("num_hidden_layers") or len(text.get("layer_types") or text.get("hybrid_override_pattern") or "")
    quantized = any(find_quantization(config, text))
    if not isinstance(layers, int) or not layers:
        return None, None
    if found.directory is not None:
        table = _read_files(str(found.directory), layers, quantized, _changed(found.directory))
        if table is not None:
            return table, "its safetensors headers, to the byte"
    if found.repo and not os.environ.get("HF_HUB_OFFLINE"):
        commit = found.directory.name if found.directory is not None else ""
        table = _fetch_files(found.repo, model.revision, commit, layers, quantized)
        if table is not None:
            return table, "its safetensors headers on the Hub, to the byte"
    return None, None


def _changed(directory: Path) -> int:
    try:
        return max((file.stat().st_mtime_ns for file in directory.glob("*.safetensors*")), default=0)
    except OSError:
        return 0


@lru_cache(maxsize=64)
def _read_files(directory: str, layers: int, quantized: bool, _changed: int) -> Table | None:
    return read_directory(Path(directory), layers, quantized=quantized)


@lru_cache(maxsize=64)
def _fetch_files(repo: str, revision: str | None, commit: str, layers: int, quantized: bool) -> Table | None:
    from huggingface_hub import constants

    try:
        check_reachable(constants.ENDPOINT, repo)
    except ConfigError:
        return None
    return fetch_table(repo, revision, commit, layers, quantized=quantized)


def _inquire(config: Mapping[str, Any], table: Table | None, *, by_vllm: bool) -> Answer:
    """Ask what is not known here; nothing for a plain family whose numbers are all there."""
    text = read_text(config)
    family = str(text.get("model_type") or config.get("model_type") or "llama")
    known = family in KNOWN_FAMILIES
    quantization = next(iter(find_quantization(config, text)), None)
    check = by_vllm and (not known or (quantization is not None and not knows_method(quantization)))
    count = table is None and (not known or bool(list_missing(config)))
    if not check and not count and not list_missing(config):
        return Answer()
    return ask(config, count=count or bool(list_missing(config)), check=check)


def _fill(config: Mapping[str, Any], filled: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with the family's defaults where the file says nothing."""
    section = find_section(config)
    own = config[section] if section is not None else config
    known = read_text(config)
    added = {key: value for key, value in filled.items() if value is not None and known.get(key) is None}
    added = {key: value for key, value in added.items() if key not in ("quantization_config", "dtype", "torch_dtype")}
    both = {**own, **added}
    return {**config, section: both} if section is not None else both


def _check_quantization(model: ModelConfig, config: Mapping[str, Any], answer: Answer | None) -> None:
    """Raise ConfigError for what vLLM refuses: by its own word, or a method that is known not to be built in."""
    if not model.served_by.loads_checkpoint or model.served_by.without_vllm or model.unservable:
        return
    if answer is not None and answer.refusal:
        raise ConfigError(
            f"model.id={model.id}: vLLM {answer.asked} {answer.refusal}; take another checkpoint of the model, or a "
            "version or plugin of vLLM that has it"
        )
    found = find_quantization(config, read_text(config))
    methods = [name_method(one) for one in found] + ([model.quantization.lower()] if model.quantization else [])
    for method in methods:
        plugin = PLUGINS.get(method)
        if method in BUILT_IN_LACKS and not (plugin and find_spec(plugin)) and not (answer and answer.asked):
            raise ConfigError(
                f"model.id={model.id} is quantized by {method}, which vLLM 0.32 does not have built in; take an AWQ or "
                "GPTQ checkpoint, which has as many bits"
            )
