"""The built-in models: the same bytes every time, a checkpoint like the one that it stands for, a whole tokenizer."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from synthgen.errors import ConfigError
from synthgen.models.tiny import BUILTIN_MODELS, CONTEXT_LENGTH, ensure_builtin_model, ensure_tiny_model
from synthgen.models.tiny_tokenizer import EOT, SPECIAL_TOKENS, VOCAB_SIZE


def hash_files(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def read_header(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the table of contents of model.safetensors."""
    data = (directory / "model.safetensors").read_bytes()
    header: dict[str, dict[str, Any]] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__")
    return header


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))


def test_tiny_model_is_the_same_bytes_in_another_process(tiny_model_dir: Path, tmp_path: Path) -> None:
    code = "from synthgen.models.tiny import ensure_tiny_model; print(ensure_tiny_model())"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    other = Path(done.stdout.strip())
    assert other.parent == tmp_path / "synthgen"
    assert other.name == tiny_model_dir.name
    assert hash_files(other) == hash_files(tiny_model_dir)


def test_tiny_model_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from synthgen.models.tiny import ensure_tiny_model;"
        "ensure_tiny_model(Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_concurrent_callers_get_one_directory(tmp_path: Path) -> None:
    # Not by fork: other tests leave threads behind, and a child that inherits their locks waits for ever.
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        paths = set(pool.map(ensure_tiny_model, [tmp_path] * 8))
    assert len(paths) == 1
    assert [path.name for path in tmp_path.iterdir()] == [paths.pop().name]


def test_unknown_builtin_model_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"builtin:huge is not built in; .*builtin:tiny"):
        ensure_builtin_model("builtin:huge")


def test_unwritable_cache_names_the_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        ensure_tiny_model(tmp_path / "file" / "cache")


@pytest.mark.parametrize(("model_id", "millions"), [("builtin:tiny", 0.8), ("builtin:small-random", 27.3)])
def test_checkpoint_has_the_layout_of_llama_w8a8(model_id: str, millions: float, tmp_path: Path) -> None:
    directory = ensure_builtin_model(model_id, tmp_path)
    config = json.loads((directory / "config.json").read_text())
    shape = BUILTIN_MODELS[model_id].shape
    header = read_header(directory)
    linears = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    for layer in range(shape.layers):
        for linear in linears:
            name = f"model.layers.{layer}.{linear}.weight"
            assert (header[name]["dtype"], header[f"{name}_scale"]["dtype"]) == ("I8", "BF16")
            assert header[f"{name}_scale"]["shape"] == [header[name]["shape"][0], 1]
            assert all(size % 32 == 0 for size in header[name]["shape"])  # what the int8 kernels of CPUs take
    assert len(header) == shape.layers * (2 * len(linears) + 2) + 3
    weights = [math.prod(entry["shape"]) for name, entry in header.items() if not name.endswith("_scale")]
    assert sum(weights) / 1e6 == pytest.approx(millions, rel=0.03)
    quantization = config["quantization_config"]
    group = quantization["config_groups"]["group_0"]
    assert (quantization["quant_method"], quantization["format"]) == ("compressed-tensors", "int-quantized")
    assert quantization["ignore"] == ["lm_head"]
    assert (group["weights"]["strategy"], group["weights"]["dynamic"]) == ("channel", False)
    assert (group["input_activations"]["strategy"], group["input_activations"]["dynamic"]) == ("token", True)
    assert config["num_attention_heads"] % 2 == config["num_key_value_heads"] % 2 == 0


def test_tokenizer_has_llama_3s_special_tokens_at_its_end(tokenizer: Tokenizer, tiny_model_dir: Path) -> None:
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    first = VOCAB_SIZE - len(SPECIAL_TOKENS)
    assert [tokenizer.id_to_token(first + k) for k in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)
    config = json.loads((tiny_model_dir / "config.json").read_text())
    assert config["eos_token_id"] == tokenizer.token_to_id(EOT)


@given(st.text(max_size=60).filter(lambda text: not any(token in text for token in SPECIAL_TOKENS)))
def test_tokenizer_keeps_any_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_tokenizer_gives_each_rating_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    for rating in "12345":
        ids = tokenizer.encode(f"Rating: {rating}\n", add_special_tokens=False).ids
        assert tokenizer.token_to_id(rating) in ids


def test_context_holds_a_judgement_of_eight_long_texts(tokenizer: Tokenizer) -> None:
    from synthgen.models.tiny_tokenizer import read_paragraphs

    prose = " ".join(read_paragraphs()[:20])
    rubric = prose[:6000]  # longer than any UltraFeedback aspect's template
    text = prose[:2500]
    assert len(tokenizer.encode(rubric + 8 * text).ids) < CONTEXT_LENGTH / 1.5
