"""A model's files into the caches of this machine, so that a node without a network can load it from there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError, first_line
from synthgen.models.gguf import find_gguf
from synthgen.models.locate import locate_checkpoint
from synthgen.models.steps import Report, silent

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot")
"""Formats of weights, in vLLM's order; of a repository that holds several the first is fetched."""


def fetch_model(model: ModelConfig, report: Report = silent) -> list[Path]:
    """Return where the files of a model are once all of them are here: its checkpoint, tokenizer and adapter.

    What is a local path, or lies in an object store (which vLLM reads itself), is left out.

    Raises:
        ConfigError: something cannot be fetched.
    """
    found: list[Path] = []
    if model.id.startswith("builtin:") or find_gguf(model) is not None:
        found.append(Path(locate_checkpoint(model, report)))
    elif _is_hub_id(model.id):
        found.append(_fetch_repository(model.id, model.revision, "model.id"))
    for key, name in (("model.tokenizer", model.tokenizer), ("model.lora", model.lora)):
        if name and _is_hub_id(name):
            found.append(_fetch_repository(name, None, key))
    return found


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and "://" not in name and name[0] not in "/.~" and not Path(name).expanduser().exists()


def _fetch_repository(repo: str, revision: str | None, key: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    with _hub_errors(repo, key):
        files = HfApi(endpoint=constants.ENDPOINT).list_repo_files(repo, revision=revision)
        formats = [suffix for suffix in WEIGHTS if any(name.endswith(suffix) for name in files)]
        unread = [f"*{suffix}" for suffix in formats[1:]]
        return Path(snapshot_download(repo, revision=revision, ignore_patterns=[*unread, "original/*"]))


@contextlib.contextmanager
def _hub_errors(repo: str, key: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    # The root of the HTTP library's errors, whichever it is (httpx, httpx2).
    transport: type[Exception] = next(base for base in HfHubHTTPError.__bases__ if base is not OSError)
    try:
        yield
    except (HfHubHTTPError, transport, OSError) as error:
        raise ConfigError(
            f"{key}={repo} cannot be fetched from the Hub ({first_line(error)}); check the name, the network, and "
            "HF_TOKEN where its terms ask for it; what was fetched stays, and the same command goes on from it"
        ) from error
