"""Weights by safetensors headers: real files, on disk and behind a Hub on the loopback that serves ranges."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from synthgen.config import ModelConfig
from synthgen.models.headers import read_directory
from synthgen.models.table import format_table, parse_table
from synthgen.models.tensors import count_parameters
from synthgen.planning import resolve_architecture, weights_bytes

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
}


def make_checkpoint(directory: Path, *, quantized: bool = False) -> int:
    """Write a checkpoint of two shards, and return the bytes of what vLLM loads of it."""
    half = np.float16
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (256, 64), "model.norm.weight": (64,)}
    for layer in range(3):  # layer 2 drafts tokens: config.json has two
        for name, shape in (("q_proj", (64, 64)), ("k_proj", (32, 64)), ("v_proj", (32, 64)), ("o_proj", (64, 64))):
            shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = shape
        for name, shape in (("gate_proj", (128, 64)), ("up_proj", (128, 64)), ("down_proj", (64, 128))):
            shapes[f"model.layers.{layer}.mlp.{name}.weight"] = shape
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = (64,)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, shape in shapes.items():
        tensors[name] = np.zeros(shape, np.int8 if quantized and "proj" in name else half)
        if quantized and "proj" in name:
            tensors[f"{name}_scale"] = np.zeros((shape[0], 1), half)
    loaded = {name: array for name, array in tensors.items() if ".layers.2." not in name}
    first = {name: array for name, array in tensors.items() if ".layers.0." in name}
    second = {name: array for name, array in tensors.items() if name not in first}
    parts = {"model-00001-of-00002.safetensors": first, "model-00002-of-00002.safetensors": second}
    for file, arrays in parts.items():
        save_file(arrays, directory / file)
    index = {name: file for file, arrays in parts.items() for name in arrays}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    scales = {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": GROUPS, "ignore": []}}
    (directory / "config.json").write_text(json.dumps({**CONFIG, **(scales if quantized else {})}))
    return sum(array.nbytes * (2 if name.endswith("_scale") else 1) for name, array in loaded.items())


GROUPS = {
    "group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
        "input_activations": {"num_bits": 8, "type": "int"},
    }
}


@pytest.mark.parametrize("quantized", [False, True])
def test_weights_are_the_files_to_the_byte(tmp_path: Path, quantized: bool) -> None:
    loaded = make_checkpoint(tmp_path, quantized=quantized)
    arch = resolve_architecture(ModelConfig(name="mine", id=str(tmp_path)))
    assert arch.source == "its safetensors headers, to the byte"
    assert weights_bytes(arch) == loaded  # scales are kept in 32 bits
    assert weights_bytes(arch, tensor_parallel_size=2) < 0.6 * loaded
    assert count_parameters(arch) == 256 * 64 + 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 64)


def test_a_checkpoint_that_is_not_whole_is_counted_otherwise(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert read_directory(tmp_path, 2, quantized=False) is None
    assert resolve_architecture(ModelConfig(name="mine", id=str(tmp_path))).source.startswith("the numbers")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"\xff" * 64)
    assert resolve_architecture(ModelConfig(name="mine", id=str(tmp_path))).source.startswith("the numbers")


def test_tables_are_written_and_read_alike(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, quantized=True)
    table = read_directory(tmp_path, 2, quantized=True)
    assert table is not None
    assert parse_table(format_table(table)) == table


class Hub(ThreadingHTTPServer):
    """As much of the Hub as its client needs for one repository. `asked` holds (path, range) of each request."""

    def __init__(self, files: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.asked: list[tuple[str, str]] = []


class Answer(BaseHTTPRequestHandler):
    """Answers `resolve` with a file or a range of it, and `api/models` with the commit."""

    server: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((path, self.headers.get("range") or ""))
        if "/resolve/" not in path:
            said = {"id": "org/name", "sha": COMMIT, "siblings": [], "gated": "manual", "cardData": {"license": "mit"}}
            self._send(200, json.dumps(said).encode(), {})
            return
        file = self.server.files / path.split("/resolve/")[1].partition("/")[2]
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data, status = file.read_bytes(), 200
        headers = {
            "ETag": f'"{file.stat().st_size}-{file.name}"',
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(data)),
        }
        asked = self.headers.get("range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last or len(data)) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            data, status = part, 206
        self._send(status, data, headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    files = tmp_path / "files"
    files.mkdir()
    server = Hub(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.shutdown()
    server.server_close()


def test_headers_are_fetched_as_ranges_once(hub: Hub) -> None:
    loaded = make_checkpoint(hub.files, quantized=True)
    model = ModelConfig(name="mine", id="org/name")
    arch = resolve_architecture(model)
    assert arch.source == "its safetensors headers on the Hub, to the byte"
    assert weights_bytes(arch) == loaded
    weights = [(path, asked) for path, asked in hub.asked if path.endswith("-of-00002.safetensors")]
    assert weights
    assert all(asked.startswith("bytes=") for _, asked in weights)
    from synthgen.models.checkpoint import _fetch_files

    _fetch_files.cache_clear()
    hub.asked.clear()
    assert weights_bytes(resolve_architecture(model)) == loaded  # from synthgen's cache
    assert not [path for path, _ in hub.asked if path.endswith("-of-00002.safetensors")]


def test_refresh_writes_an_entry_that_plans(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synthgen.models.refresh import main
    from synthgen.planning import load_models

    loaded = make_checkpoint(hub.files, quantized=True)
    catalog = tmp_path / "conf" / "model"
    assert main(["mine", "--id", "org/name", "--to", str(catalog)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    [entry] = load_models(tmp_path / "conf")
    assert (entry.name, entry.id, entry.license, entry.gated, entry.unchecked) == (
        "mine",
        "org/name",
        "mit",
        True,
        None,
    )
    entry.architecture["tensors"] = str(catalog / "tensors" / "mine.txt")
    assert weights_bytes(resolve_architecture(entry)) == loaded
    assert main(["mine", "--to", str(catalog)]) == 0  # the id is the entry's now
    with pytest.raises(SystemExit):
        main(["another", "--to", str(catalog)])
    assert main(["gone", "--id", "/no/such/directory", "--to", str(catalog)]) == 2
    assert "is not a directory" in capsys.readouterr().err
