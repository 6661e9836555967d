"""From prompts to a trained model by way of the Hub, each step as a user starts it: run, publish, load, train, grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_line import synthgen
from hub_server import HubServer

from tests.inline_runs import run_inline

ROOT = Path(__file__).resolve().parents[2]
# The Self-Instruct seed tasks where the data lie beside the checkout, else the shipped prompts.
SEED_TASKS = ROOT.parent / "shared" / "data" / "self_instruct_seed_tasks.jsonl"
PROMPTS = f"prompts.path={SEED_TASKS if SEED_TASKS.is_file() else 'builtin:examples'}"
LOAD = """
import json, sys
from datasets import load_dataset
names = ("default", "kto", "generations")
json.dump({name: load_dataset("org/pairs", name, revision="v1")["train"].to_list() for name in names}, sys.stdout)
"""


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """What a user's shell would hold: the Hub's address, a token, and a cache of its own."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }


def read_rows(run_dir: Path, directory: str) -> list[dict[str, Any]]:
    files = sorted((run_dir / "dataset" / directory).glob("train-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.mark.slow
def test_a_run_is_published_loaded_back_and_trained_on(
    hub: HubServer, tmp_path: Path, environment: dict[str, str]
) -> None:
    run_dir = tmp_path / "run"
    run = ["run", "experiment=echo", PROMPTS, "prompts.limit=64", f"run.dir={run_dir}", "run.unit_size=16"]
    publish = ["publish", f"run_dir={run_dir}", "publish.repo_id=org/pairs"]
    outputs = []
    for arguments in (run, [*publish, "publish.tag=v1"]):
        done = synthgen(*arguments, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        outputs += [done.stdout, done.stderr]
    assert "published http" in outputs[-2]

    repo = hub.repos["org/pairs"]
    assert repo.private
    assert repo.tags == {"v1": repo.head.oid}
    card = hub.read("org/pairs", "README.md").decode()
    assert 'load_dataset("org/pairs")' in card
    assert {"figures/ratings.png", "figures/margins.png"} <= repo.head.files.keys()

    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    rows = json.loads(loaded.stdout)
    assert rows["default"] == read_rows(run_dir, "data")
    assert rows["kto"] == read_rows(run_dir, "kto")
    assert rows["generations"] == read_rows(run_dir, "generations")
    report = json.loads((run_dir / "report.json").read_text())
    assert len(rows["default"]) == report["pairs"]["made"] > 20

    model = tmp_path / "model"
    train = ["jobs/train_dpo.py", "data=org/pairs", "data_revision=v1", "model=builtin:tiny", f"output_dir={model}"]
    train += ["args.max_steps=8", "args.learning_rate=1e-3", "args.logging_steps=1", "args.save_strategy=no"]
    train += ["args.gradient_accumulation_steps=1", "+args.bf16=false", "+args.gradient_checkpointing=false"]
    trained = subprocess.run(
        [sys.executable, *train, "args.per_device_train_batch_size=8"],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    log = [entry for entry in json.loads((model / "trainer_state.json").read_text())["log_history"] if "loss" in entry]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["rewards/margins"] > log[0]["rewards/margins"]

    outputs += [loaded.stdout, loaded.stderr, trained.stdout, trained.stderr, card]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(hub.token in text for text in outputs)
    assert not any(hub.token.encode() in data for data in files)


@pytest.mark.slow
def test_a_grown_run_sends_less_than_a_fifth_of_the_bytes(
    hub: HubServer, tmp_path: Path, environment: dict[str, str]
) -> None:
    run_dir, prompts = tmp_path / "run", tmp_path / "prompts.jsonl"
    received = []
    for count in (480, 490):
        prompts.write_text("".join(json.dumps({"prompt": f"Question number {i}?"}) + "\n" for i in range(count)))
        run = ["run", "experiment=echo", f"prompts.path={prompts}", f"run.dir={run_dir}", "export.shard_mib=1"]
        # Long completions: a dozen shards of the smallest size.
        run += ["generators.main.model.echo.output_tokens=1200", "generators.main.sampling.max_tokens=4000"]
        run += ["run.unit_size=16"]
        run_inline(run[1:])
        done = synthgen("publish", f"run_dir={run_dir}", "publish.repo_id=org/pairs", env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        received.append(hub.received_bytes)
    first, second = received[0], received[1] - received[0]
    assert 0 < second < first / 5
    head = hub.repos["org/pairs"].head
    assert {p: hub.read("org/pairs", p) for p in head.files if p.startswith("data/")} == {
        f"data/{file.name}": file.read_bytes() for file in (run_dir / "dataset/data").iterdir()
    }
