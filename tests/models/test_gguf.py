"""GGUF files: every tensor type by its header alone, names as people write them, the Hub's files on loopback."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from publish.hub_server import HubServer

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.gguf import dequantized_directory, describe_serving, find_gguf
from synthgen.models.gguf_header import block_formats, read_header
from synthgen.planning import plan_engine

HIDDEN, LAYERS, VOCAB = 512, 2, 64


def write_gguf(path: Path, kind: GGMLQuantizationType = GGMLQuantizationType.Q4_K) -> Path:
    """Write a Llama of two layers whose matrices are zeros of `kind`, its norms float32."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_vocab_size(VOCAB)
    writer.add_token_list([f"token {i} ü" for i in range(VOCAB)])
    weights, size = GGML_QUANT_SIZES[kind]
    writer.add_tensor("token_embd.weight", np.zeros((VOCAB, HIDDEN // weights * size), np.uint8), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.zeros(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [kind for kind in GGMLQuantizationType if GGML_QUANT_SIZES[kind][0] <= HIDDEN])
def test_bits_per_weight_of_every_type_come_from_the_header(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    path = write_gguf(tmp_path / "model.gguf", kind)
    with path.open("rb") as stream:
        header = read_header(io.BytesIO(stream.read(16_384)), "model.gguf")  # the weights are not there
    embeddings, norm = header.tensors
    weights, size = GGML_QUANT_SIZES[kind]
    assert (embeddings.kind, embeddings.shape, norm.kind) == (kind.name, (HIDDEN, VOCAB), "F32")
    assert 8 * embeddings.size / embeddings.elements == 8 * size / weights
    assert header.bits_per_weight == pytest.approx(8 * (embeddings.size + 4 * HIDDEN) / (HIDDEN * (VOCAB + 1)))
    assert header.fields["tokenizer.ggml.tokens"][3] == "token 3 ü"


def test_every_type_of_the_package_is_known() -> None:
    assert len(block_formats()) == len(GGML_QUANT_SIZES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04", "is not a GGUF file"),
        (b"GGUF\x01\x00\x00\x00", "GGUF version 1"),
        (b"GGUF\x03\x00\x00\x00\x09", "is cut off"),
    ],
)
def test_files_that_cannot_be_read_are_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=f"x.gguf.*{message}|x.gguf is {message}"):
        read_header(io.BytesIO(data), "x.gguf")


def test_a_local_file_is_planned_without_a_config(tmp_path: Path) -> None:
    model = ModelConfig(name="hub", id=str(write_gguf(tmp_path / "model.gguf")))
    arch = resolve_architecture(model)
    assert (arch.hidden_size, arch.num_layers, arch.num_kv_heads, arch.vocab_size) == (HIDDEN, LAYERS, 2, VOCAB)
    assert arch.tie_word_embeddings
    plan = plan_engine(model, ClusterConfig())
    assert "model.gguf holds Q4_K, 4.92 bits per weight" in plan.reasons[-1]
    assert "dequantized to bfloat16" in plan.reasons[-1]


def test_a_file_that_changes_is_converted_anew(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    before = dequantized_directory(path, tmp_path)
    assert dequantized_directory(path, tmp_path) == before
    write_gguf(path, GGMLQuantizationType.Q8_0)
    assert dequantized_directory(path, tmp_path) != before


def test_names_that_are_no_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        find_gguf(ModelConfig(id="org/name.gguf"))
    with pytest.raises(ConfigError, match=r"model\.gguf_file=no\.gguf is not in"):
        find_gguf(ModelConfig(id=str(tmp_path), gguf_file="no.gguf"))
    assert find_gguf(ModelConfig(id="org/name")) is None
    assert find_gguf(ModelConfig(id="s3://bucket/model")) is None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub on loopback with one GGUF repository."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with HubServer() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        files = {
            f"small-{kind}.gguf": write_gguf(tmp_path / "x.gguf", GGMLQuantizationType[kind]).read_bytes()
            for kind in ("Q4_K", "Q8_0")
        }
        HfApi(endpoint=server.url, token=server.token).create_repo("org/small-GGUF")
        server.commit("org/small-GGUF", {**files, "README.md": b"# small"})
        yield server
        close_session()


def test_a_suffix_and_a_file_name_find_the_same_file_on_the_hub(hub: HubServer) -> None:
    suffixed = find_gguf(ModelConfig(id="org/small-GGUF:q8_0"))
    named = find_gguf(ModelConfig(id="org/small-GGUF", gguf_file="small-Q8_0.gguf"))
    assert suffixed == named is not None
    assert suffixed.fetch().read_bytes() == hub.read("org/small-GGUF", "small-Q8_0.gguf")


def test_a_plan_for_the_hub_reads_the_header_there(hub: HubServer) -> None:
    said = describe_serving(ModelConfig(id="org/small-GGUF:Q8_0"))
    assert said is not None
    assert "small-Q8_0.gguf holds Q8_0" in said


def test_a_suffix_that_fits_no_file_names_those_that_there_are(hub: HubServer) -> None:
    with pytest.raises(ConfigError, match=r"no file of that kind; .*small-Q4_K\.gguf, small-Q8_0\.gguf"):
        find_gguf(ModelConfig(id="org/small-GGUF:Q5_K_M"))
    with pytest.raises(ConfigError, match=r"model\.id=org/none:Q4_K.* cannot be read from the Hub"):
        find_gguf(ModelConfig(id="org/none:Q4_K"))
