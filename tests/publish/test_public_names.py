"""What is published names models by a public name: no local path, and no name of a catalog's group."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synthgen.config import ModelConfig
from synthgen.config.public_names import call_model, name_public
from tests.inline_runs import run_inline

SNAPSHOT = "/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/0f1e2d"


@pytest.mark.parametrize(
    ("name", "model_id", "public", "called"),
    [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("hub", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("hub", "/home/me/models/mine-7b/", "mine-7b", "mine-7b"),
        ("hub", "./mine-7b.gguf", "mine-7b.gguf", "mine-7b.gguf"),
        ("hub", "~/mine", "mine", "mine"),
        ("hub", SNAPSHOT, "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("llama-3.1-8b", "/home/me/llama", "llama-3.1-8b", "llama-3.1-8b"),
        ("openai_endpoint", "/srv/models/mine", "mine", "mine"),
        ("openai_endpoint", "gpt-5", "gpt-5", "gpt-5"),
        ("hub", "s3://key:secret@bucket/mine", "s3://bucket/mine", "s3://bucket/mine"),
        ("tiny", "builtin:tiny", "builtin:tiny", "tiny"),
    ],
)
def test_names_of_models(name: str, model_id: str, public: str, called: str) -> None:
    model = ModelConfig(name=name, id=model_id)
    assert (name_public(model), call_model(model)) == (public, called)


def test_a_folder_that_looks_like_a_hub_id_is_known_by_being_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig(name="hub", id="models/mine")
    monkeypatch.chdir(tmp_path)
    assert name_public(model) == "models/mine"
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert name_public(model) == "mine"


def test_nothing_that_is_published_holds_a_path(tmp_path: Path) -> None:
    private = tmp_path / "private" / "mine-7b"
    report = run_inline(
        [
            "experiment=echo", f"run.dir={tmp_path / 'run'}", "prompts.limit=6", "judge.orders=2",
            f"generators.main.model.id={private}", "generators.main.model.name=hub",
            f"judge.model.id={tmp_path / 'private' / 'judge'}", "judge.model.name=hub",
            "export.formats=[ultrafeedback,ranked]",
        ]
    )  # fmt: skip
    assert report["stages"]["generate-main"]["model"] == "mine-7b"
    assert report["trust"]["judge_model"] == "judge"
    dataset = tmp_path / "run" / "dataset"
    pairs, rows = (pq.read_table(dataset / name).to_pylist() for name in ("data", "generations"))
    assert {(row["chosen_model"], row["rejected_model"]) for row in pairs} == {("mine-7b", "mine-7b")}
    assert {row["model"] for row in rows} == {"mine-7b"}
    assert {one["judge_model"] for row in rows for one in row["judgements"]} == {"judge"}
    card = (dataset / "README.md").read_text()
    assert "mine-7b wrote the completions" in card
    assert "hub" not in card.replace("Hub", "").replace("name: hub", "")
    for folder, _, names in os.walk(dataset):
        for name in names:
            if name.startswith("."):
                continue  # the manifest is not published
            path = Path(folder) / name
            text = path.read_bytes() if path.suffix != ".parquet" else str(pq.read_table(path).to_pylist()).encode()
            assert str(private.parent).encode() not in text, path
