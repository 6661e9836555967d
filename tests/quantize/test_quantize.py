"""`jobs/quantize.py`: recipes by scheme, calibration data, and llm-compressor's own work on the tiny model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported_runs import export_units, make_unit

from synthgen.config import Config, ModelConfig
from synthgen.config.resources import project_path
from synthgen.errors import ConfigError, RunFailedError
from synthgen.planning import resolve_architecture
from synthgen.quantize.calibration import read_conversations
from synthgen.quantize.job import RECORD, _held, describe_state, main, quantize
from synthgen.quantize.recipes import list_inputs, make_recipe
from synthgen.quantize.settings import QuantizeConfig, Scheme, compose_quantize_config

SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "max_position_embeddings": 8192,
}  # fmt: skip
TINY = ["model=builtin:tiny", "samples=4", "max_length=64"]


def make_config(*overrides: str) -> QuantizeConfig:
    return compose_quantize_config(["model=org/name", "output_dir=x", *overrides])


def list_modifiers(config: QuantizeConfig, *inputs: int) -> dict[str, Any]:
    modifiers: dict[str, Any] = make_recipe(config, inputs or (4096,))["quantize_stage"]["quantize_modifiers"]
    return modifiers


def test_recipes_are_those_of_llm_compressor() -> None:
    w8a8 = list_modifiers(make_config("scheme=W8A8"))
    assert list(w8a8) == ["SmoothQuantModifier", "GPTQModifier"], "smoothed first"
    assert w8a8["SmoothQuantModifier"] == {"smoothing_strength": 0.8}
    assert w8a8["GPTQModifier"] == {
        "targets": ["Linear"], "ignore": ["lm_head"], "scheme": "W8A8", "dampening_frac": 0.01
    }  # fmt: skip
    assert list(list_modifiers(make_config("scheme=W8A8", "smoothing=0"))) == ["GPTQModifier"]
    assert list_modifiers(make_config("scheme=W4A16"))["GPTQModifier"]["scheme"] == "W4A16"
    for scheme in ("FP8_DYNAMIC", "FP8_BLOCK", "NVFP4"):
        found = list_modifiers(make_config(f"scheme={scheme}", "ignore=[lm_head,'re:.*gate$']"))
        assert found == {
            "QuantizationModifier": {"targets": ["Linear"], "ignore": ["lm_head", "re:.*gate$"], "scheme": scheme}
        }


def test_groups_divide_the_widths() -> None:
    """SmolLM2-135M has 576 inputs, which 128 does not divide."""
    widths = list_inputs(resolve_architecture(ModelConfig(name="hub", id="org/name", architecture=SMOLLM2)))
    assert sorted(widths) == [576, 1536]
    weights = list_modifiers(make_config("scheme=W4A16"), *widths)["GPTQModifier"]["config_groups"]["group_0"][
        "weights"
    ]
    assert (weights["group_size"], weights["num_bits"], weights["strategy"]) == (64, 4, "group")
    with pytest.raises(ConfigError, match=r"group_size=128 does not divide the widths .*(576, 1536|1536, 576)"):
        list_modifiers(make_config("scheme=W4A16", "group_size=128"), *widths)
    with pytest.raises(ConfigError, match="needs widths that 32 divides"):
        list_modifiers(make_config("scheme=W4A16"), 576, 1000)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheme=W3A3"], "W3A3"),
        (["scheme=W8A8", "sample=3"], "sample"),
        (["scheme=W8A8", "samples=0"], "samples=0 must be at least 1"),
        (["scheme=W8A8", "smoothing=1"], "smoothing=1.0 must be from 0"),
        (["scheme=W8A8", "dampening=0"], "dampening=0.0 must be above 0"),
        (["scheme=W8A8", "group_size=64"], "group_size=64 is of scheme=W4A16"),
    ],
)
def test_what_cannot_work_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make_config(*overrides)
    assert "\n" not in str(error.value)


def test_a_run_calibrates_with_its_chosen_answers(tmp_path: Path) -> None:
    export_units(tmp_path, 1, Config(), make=partial(make_unit, prompts=24, words=3))
    found = read_conversations(make_config("scheme=W8A8", f"data={tmp_path}", "samples=5"))
    assert len(found) == 5
    assert all([turn["role"] for turn in one][-2:] == ["user", "assistant"] for one in found)
    assert found == read_conversations(make_config("scheme=W8A8", f"data={tmp_path}", "samples=5"))
    other = read_conversations(make_config("scheme=W8A8", f"data={tmp_path}", "samples=5", "seed=1"))
    assert other != found


def test_prompts_calibrate_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n')
    found = read_conversations(make_config("scheme=NVFP4", f"data={tmp_path / 'mine.jsonl'}"))
    assert [one[-1]["content"] for one in found] == ["One?", "Two?"]
    assert len(read_conversations(make_config("scheme=W8A8", "samples=3"))) == 3, "the shipped ones"
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "README.md").write_text("# Somebody's prompts")
    (tmp_path / "clone" / "data.jsonl").write_text('{"prompt": "Three?"}\n')
    cloned = read_conversations(make_config("scheme=W8A8", f"data={tmp_path / 'clone'}"))
    assert [one[-1]["content"] for one in cloned] == ["Three?"], "no run of ours, though it has a card"
    (tmp_path / "run" / "prompts").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no data set; finish the run"):
        read_conversations(make_config("scheme=W8A8", f"data={tmp_path / 'run'}"))


def test_what_llm_compressor_says_is_told() -> None:
    assert describe_state("Loading weights: 3%") == "loading the model"
    assert describe_state("(2/32): Calibrating:  10%|\r(3/32): Propagating: 5%") == "layer 3 of 32: propagating"
    assert describe_state("(3/3): Calibrating\nWriting model shards: 0%") == "writing the checkpoint"


def test_a_failure_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none" / "llmcompressor").mkdir(parents=True)
    (tmp_path / "none" / "llmcompressor" / "__init__.py").write_text("raise RuntimeError('it is broken')\n")
    monkeypatch.setattr("synthgen.quantize.job.ensure_environment", lambda: tmp_path / "none")
    output = tmp_path / "out"
    with pytest.raises(RunFailedError, match=r"llm-compressor failed \(status 1\): .*it is broken; see .*out"):
        quantize(make_config(*TINY, "scheme=FP8_DYNAMIC", f"output_dir={output}"))
    assert not output.exists()
    output.mkdir()
    (output / "mine.txt").write_text("precious")
    assert main([*TINY, "scheme=W8A8", f"output_dir={output}"]) == 2
    assert "holds something else already" in capsys.readouterr().err
    assert (output / "mine.txt").read_text() == "precious"
    (tmp_path / "awq").mkdir()
    awq = {**SMOLLM2, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}
    (tmp_path / "awq" / "config.json").write_text(json.dumps(awq))
    assert main([f"model={tmp_path / 'awq'}", "scheme=FP8_DYNAMIC", f"output_dir={tmp_path / 'new'}"]) == 2
    assert "is quantized already (awq)" in capsys.readouterr().err


def test_of_two_jobs_on_one_directory_the_second_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with _held(output) as partial:
        (partial / "checkpoint").mkdir()
        with pytest.raises(ConfigError, match=r"output_dir=.*out is being made by another job"):
            quantize(make_config(*TINY, "scheme=FP8_DYNAMIC", f"output_dir={output}"))
        assert (partial / "checkpoint").is_dir()
    assert not partial.exists()
    partial.mkdir()
    (partial / "left").write_text("of a job that was killed")
    with _held(output) as again:
        assert (again, list(again.iterdir())) == (partial, [])


@pytest.mark.slow
def test_w8a8_of_the_tiny_model_is_what_is_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """llm-compressor's own work; the keys of the published checkpoints' quantization section, as the catalog has it."""
    output = tmp_path / "tiny-w8a8"
    (tmp_path / "tiny-w8a8.partial").mkdir()
    (tmp_path / "tiny-w8a8.partial" / "half").write_text("of a job that was killed")
    assert main([*TINY, "scheme=W8A8", f"output_dir={output}"]) == 0
    assert not (tmp_path / "tiny-w8a8.partial").exists()
    config = json.loads((output / "config.json").read_text())
    made = config["quantization_config"]
    published = yaml.safe_load((project_path("conf") / "model" / "quantization" / "int8-w8a8.yaml").read_text())
    assert made["quant_method"] == published["quant_method"]
    assert (made["format"], made["ignore"]) == ("int-quantized", published["ignore"])
    (group,) = made["config_groups"].values()
    for part, wanted in published["config_groups"]["group_0"].items():
        assert {key: group[part][key] for key in wanted} == wanted
    model = ModelConfig(name="hub", id=str(output), engine="vllm")
    assert resolve_architecture(model).quantization.label == "INT8 W8A8 (compressed-tensors)"
    assert {"model.safetensors", "tokenizer.json", RECORD} <= {path.name for path in output.iterdir()}
    before = (output / "model.safetensors").stat().st_mtime_ns
    assert main([*TINY, "scheme=W8A8", f"output_dir={output}"]) == 0
    assert "is done already" in caplog.text or (output / "model.safetensors").stat().st_mtime_ns == before
    assert main([*TINY, "scheme=W8A8", "seed=3", f"output_dir={output}"]) == 2, "another job's"


def test_schemes_that_round_ask_for_no_data() -> None:
    assert [scheme.value for scheme in Scheme if scheme.calibrated] == ["W8A8", "W4A16", "NVFP4"]
