"""The training jobs: TRL's real trainers on an exported data set, with the tiny model, on CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from exported_runs import export_units, make_unit
from safetensors import safe_open

from synthgen.config import Config, ExportConfig
from synthgen.errors import ConfigError, RunFailedError, RunStoppedError
from synthgen.models.dequantize import dequantize_checkpoint
from synthgen.models.tiny import ensure_tiny_model
from synthgen.records import Tables
from synthgen.training import progress as progress_module
from synthgen.training.child import run_training
from synthgen.training.progress import read_progress
from synthgen.training.train import TrainConfig, choose_best, compose_train_config, load_data, main, train

ROOT = Path(__file__).resolve().parents[2]
FAST = [
    "args.learning_rate=1e-3",
    "args.logging_steps=1",
    "args.gradient_accumulation_steps=1",
    "args.save_strategy=no",
    "+args.bf16=false",
    "+args.gradient_checkpointing=false",
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """So small a model is ten times slower on threads that have to wait for other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    config = Config(export=ExportConfig(test_fraction=0.2))
    export_units(path, 1, config, make=partial(make_unit, prompts=24, words=1))
    return path


def read_log(output_dir: Path) -> list[dict[str, float]]:
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


def test_train_dpo_lowers_the_loss_and_raises_the_margin_on_its_own_pairs(run_dir: Path, tmp_path: Path) -> None:
    overrides = [f"data={run_dir}", "model=builtin:tiny", f"output_dir={tmp_path / 'out'}", "args.max_steps=8"]
    config = compose_train_config("dpo", [*overrides, *FAST, "args.per_device_train_batch_size=8"])
    metrics = train("dpo", config)
    log = read_log(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: the model is its own reference
    assert log[-1]["loss"] < 0.3
    assert log[0]["rewards/margins"] == pytest.approx(0, abs=1e-3)
    assert log[-1]["rewards/margins"] > 1
    assert metrics["eval_loss"] > 0
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if "scale" in name]  # noqa: SIM118
    assert "builtin:tiny" in (tmp_path / "out" / "train.yaml").read_text()


def test_train_kto_writes_a_lora_adapter(run_dir: Path, tmp_path: Path) -> None:
    overrides = [f"data={run_dir}", "model=builtin:tiny", f"output_dir={tmp_path / 'out'}", "args.max_steps=12"]
    overrides += [*FAST, "lora.enabled=true", "eval_split=none", "args.per_device_train_batch_size=8"]
    config = compose_train_config("kto", [*overrides, "args.learning_rate=5e-3"])
    train("kto", config)
    log = read_log(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(0.5, abs=1e-3)
    assert min(entry["loss"] for entry in log) < 0.49
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_trl_command_line_trains_on_the_export(run_dir: Path, tmp_path: Path) -> None:
    model = dequantize_checkpoint(str(ensure_tiny_model()), tmp_path / "model")
    options = {
        "--dataset_name": run_dir / "dataset",
        "--model_name_or_path": model,
        "--output_dir": tmp_path / "out",
        "--max_steps": 2,
        "--per_device_train_batch_size": 4,
        "--logging_steps": 1,
        "--report_to": "none",
        "--use_cpu": True,
        "--bf16": False,
    }
    command = [str(Path(sys.executable).with_name("trl")), "dpo"]
    command += [str(part) for option in options.items() for part in option]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_job_script_reports_a_mistake_in_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "jobs/train_dpo.py",
        "data=nowhere",
        "model=builtin:tiny",
        "output_dir=out",
        "lora.rank=8",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "rank" in done.stderr


def test_training_that_was_killed_goes_on_from_its_last_whole_checkpoint_to_the_same_weights(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(name: str) -> TrainConfig:
        overrides = [f"data={run_dir}", "model=builtin:tiny", f"output_dir={tmp_path / name}", "args.max_steps=4"]
        overrides += [*(one for one in FAST if "save_strategy" not in one), "lora.enabled=true", "eval_split=none"]
        overrides += ["args.save_strategy=steps", "+args.save_steps=1", "args.resume_from_checkpoint=true"]
        return compose_train_config("dpo", [*overrides, "args.per_device_train_batch_size=4"])

    def read(name: str) -> dict[str, Any]:
        with safe_open(tmp_path / name / "adapter_model.safetensors", "pt") as weights:
            return {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118

    def kill(progress: Mapping[str, Any]) -> str:
        if progress["step"] == 3:
            raise KeyboardInterrupt
        return ""

    train("dpo", make("whole"))
    with monkeypatch.context() as patch:
        patch.setattr(progress_module, "LINE_EVERY_S", 0.0)
        patch.setattr(progress_module, "format_progress", kill)
        with pytest.raises(KeyboardInterrupt):
            train("dpo", make("cut"))
    torn = tmp_path / "cut" / "checkpoint-3"
    torn.mkdir(exist_ok=True)
    (torn / "trainer_state.json").write_text('{"global_step": 3, ')
    train("dpo", make("cut"))
    whole, resumed = read("whole"), read("cut")
    assert {key for key, value in whole.items() if not torch.equal(value, resumed[key])} == set()
    progress = read_progress(tmp_path / "cut")
    assert progress is not None
    assert (progress["step"], [point["step"] for point in progress["curve"]]) == (4, [1, 2, 3, 4])
    assert "builtin:tiny" in (tmp_path / "cut" / "adapter_config.json").read_text()


def test_sft_trains_on_the_chosen_sides(run_dir: Path, tmp_path: Path) -> None:
    overrides = [f"data={run_dir}", "model=builtin:tiny", f"output_dir={tmp_path / 'out'}", "args.max_steps=2"]
    config = compose_train_config("sft", [*overrides, *FAST, "lora.enabled=true", "eval_split=none"])
    best = choose_best(load_data(config))["train"]
    assert best.column_names == ["prompt", "completion"]
    assert len(best) == len({json.dumps(prompt) for prompt in best["prompt"]})
    train("sft", config)
    assert len(read_log(tmp_path / "out")) == 2


def test_a_training_in_a_process_of_its_own_says_what_was_wrong_with_it(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    with pytest.raises(RunFailedError, match=r"training failed \(status 2\): train_dpo: data=.*nowhere"):
        run_training(
            "dpo",
            [f"data={tmp_path / 'nowhere'}", "model=builtin:tiny", f"output_dir={tmp_path}"],
            tmp_path,
            launch=[],
            told=told.append,
            check=lambda: None,
        )
    with pytest.raises(RunStoppedError):
        run_training("dpo", ["data=x"], tmp_path, launch=[], told=told.append, check=stop)


def stop() -> None:
    raise RunStoppedError("stopped by SIGTERM")


def tie_everything(unit: int, **options: Any) -> Tables:
    tables = dict(make_unit(unit, **options))
    ratings = tables["judge"].column_names.index("ratings")
    tables["judge"] = tables["judge"].set_column(ratings, "ratings", [[[3, 3, 3, 3]] * 8]).cast(tables["judge"].schema)
    return tables


def test_train_names_what_cannot_work(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_units(tmp_path / "ties", 1, make=tie_everything)
    (tmp_path / "empty").mkdir()
    given = {"data": str(run_dir), "model": "builtin:tiny", "output_dir": str(tmp_path / "out")}
    cases = [
        ({"data": str(tmp_path / "ties")}, "has no row to train on"),
        ({"data": str(tmp_path / "empty")}, "holds no data set"),
        ({"data": str(tmp_path / "missing")}, "cannot be loaded"),
        ({"data_config": "pairs"}, "data_config=pairs"),
        ({"train_split": "dev"}, "it has train, test"),
        ({"+args.learnin_rate": "1"}, "did you mean args.learning_rate?"),
        ({"model": str(tmp_path / "nothing")}, "model="),
    ]
    for change, message in cases:
        assert main("dpo", [f"{key}={value}" for key, value in {**given, **change}.items()]) == 2, change
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert message in error


def test_train_needs_to_be_told_what_and_where() -> None:
    with pytest.raises(ConfigError, match="data"):
        compose_train_config("dpo", ["model=builtin:tiny", "output_dir=out"])


@pytest.mark.parametrize("method", ["dpo", "kto", "sft"])
def test_shipped_configs_compose(method: str) -> None:
    config = compose_train_config(method, ["data=runs/first", "model=builtin:tiny", "output_dir=out"])
    assert config.data_config == {"dpo": "default", "kto": "kto", "sft": "default"}[method]


def test_load_data_takes_the_data_set_s_own_directory(run_dir: Path) -> None:
    overrides = [f"data={run_dir / 'dataset'}", "model=builtin:tiny", "output_dir=out"]
    assert set(load_data(compose_train_config("kto", overrides))) == {"train", "test"}
