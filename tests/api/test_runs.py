"""Runs from Python: composed, planned, run, opened, paired anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import synthgen
from tests.inline_runs import inline_runs


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let `datasets` leave nothing in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def seen() -> list[Mapping[str, Any]]:
    """What the callback for progress was told."""
    return []


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("api")
    lines = [json.dumps({"prompt": f"Question {i}?", "topic": i % 3}) for i in range(20)]
    (directory / "prompts.jsonl").write_text("\n".join(lines))
    return {
        "experiment": "echo",
        "prompts": {"path": directory / "prompts.jsonl"},
        "run": {"dir": directory / "run", "unit_size": 6},
        "export": {"formats": ["sft", "jsonl"], "test_fraction": 0.2},
        "generators.main.model.echo": {"fail_share": 0.1},
    }


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], seen: list[Mapping[str, Any]]) -> synthgen.Run:
    with inline_runs():
        return synthgen.run(settings, progress=seen.append)


def test_progress_is_told_of_every_state(run: synthgen.Run, seen: list[Mapping[str, Any]]) -> None:
    assert run.url
    assert [status["state"] for status in seen][:1] == ["ingesting"]
    assert seen[-1]["state"] == "complete"


def test_callback_that_raises_ends_the_run_and_keeps_what_is_there(settings: dict[str, Any], tmp_path: Path) -> None:
    def refuse(status: Mapping[str, Any]) -> None:
        if status["state"] == "exporting":
            raise ValueError("enough")

    other = {**settings, "run": {**settings["run"], "dir": tmp_path / "run"}}
    with inline_runs():
        with pytest.raises(ValueError, match="enough"):
            synthgen.run(other, progress=refuse)
        assert synthgen.open_run(tmp_path / "run").status()["state"] == "failed"
        reused = synthgen.run(other).report["stages"]["generate-main"]["reused_units"]
    assert reused == 4


def test_callback_that_always_raises_leaves_a_state_that_is_true(settings: dict[str, Any], tmp_path: Path) -> None:
    told = []

    def refuse(status: Mapping[str, Any]) -> None:
        told.append(status["state"])
        raise ValueError(f"enough of {status['state']}")

    other = {**settings, "run": {**settings["run"], "dir": tmp_path / "run"}}
    with inline_runs(), pytest.raises(ValueError, match="enough of ingesting"):
        synthgen.run(other, progress=refuse)
    assert told == ["ingesting"]
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "failed"


def test_opened_run_gives_its_data_set(run: synthgen.Run) -> None:
    opened = synthgen.open_run(run.url)
    assert {"default", "kto", "generations", "sft"} <= set(opened.configs)
    train, test = opened.dataset(), opened.dataset(split="test")
    assert isinstance(train, datasets.Dataset)
    assert set(train.column_names) >= {"prompt", "chosen", "rejected"}
    frame = opened.frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame["prompt_id"].to_list() == train["prompt_id"]
    assert train.num_rows + test.num_rows == opened.report["pairs"]["made"]
    assert opened.table("generations").num_rows + opened.table("generations", "test").num_rows == 20 * 4
    assert opened.config.generators["main"].n == 4


def test_opened_run_tells_what_failed(run: synthgen.Run) -> None:
    failures = run.failures()
    assert failures
    assert {failure["reason"] for failure in failures} == {"invalid_request"}
    (counted,) = run.status()["failures"]
    assert (counted["stage"], counted["requests"]) == ("generate-main", len(failures))


def test_pairing_with_the_run_s_own_settings_gives_its_pairs(run: synthgen.Run) -> None:
    again = run.pair()
    ours = pl.concat([run.frame(split=split) for split in ("train", "test")]).sort("prompt_id", "pair_index")
    assert pl.from_arrow(again.pairs).equals(ours)  # type: ignore[arg-type]
    kto = pl.concat([run.frame("kto", split) for split in ("train", "test")])
    by = ["prompt_id", "completion_id"]
    assert pl.from_arrow(again.kto).sort(by).equals(kto.sort(by))  # type: ignore[union-attr]
    assert again.counts.pairs == run.report["pairs"]["made"]


def test_pairing_with_other_settings_leaves_the_run_alone(run: synthgen.Run) -> None:
    before = run.frame()
    every = run.pair(policy="all_pairs", max_pairs_per_prompt=9)
    assert every.counts.pairs > run.report["pairs"]["made"]
    assert run.pair(min_margin=np.float64(1.5)).counts.pairs < run.report["pairs"]["made"]
    assert run.frame().equals(before)
    assert datasets.Dataset(every.pairs).num_rows == every.counts.pairs
    drawn = [run.pair(policy="best_random", seed=seed).pairs for seed in (0, 0, 1)]
    assert drawn[0].equals(drawn[1])
    assert not drawn[0].equals(drawn[2])


@pytest.mark.parametrize("kind", ["table", "frame", "dataset"])
def test_generations_from_anywhere_pair(run: synthgen.Run, kind: str) -> None:
    found = synthgen.pair(getattr(run, kind)("generations"), kto={"high": 3.0, "low": 2.9})
    assert found.counts.pairs > 0
    assert set(found.pairs["metadata"].to_pylist()) == {"{}"}


def test_mistakes_are_one_line(run: synthgen.Run, tmp_path: Path) -> None:
    for call, line in (
        (lambda: synthgen.open_run(tmp_path), "holds no run"),
        (lambda: run.dataset("defualt"), "has no config 'defualt'; it has"),
        (lambda: run.dataset(split="valid"), "has no split 'valid'; it has train, test"),
        (lambda: run.pair(min_margn=1), "pairs.min_margn is not a configuration key; did you mean pairs.min_margin"),
        (lambda: run.pair(min_margin="wide"), "pairs.min_margin: Value 'wide'"),
        (lambda: run.pair(min_margin=None), "pairs.min_margin: "),
        (lambda: run.pair(kto={"hgh": 3}), "pairs.kto.hgh is not a configuration key; did you mean pairs.kto.high?"),
        (lambda: run.pair(prompts=None), "pairs.prompts is not a configuration key"),
        (lambda: run.pair(policy="best_worse"), "did you mean best_worst?"),
        (lambda: synthgen.run({"experiment": "ecko"}), "did you mean echo"),
    ):
        with pytest.raises(synthgen.ConfigError) as error:
            call()
        assert line in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="lacks the column"):
        synthgen.pair(run.table())
    with pytest.raises(TypeError, match="type DatasetDict; give one split"):
        synthgen.pair(datasets.DatasetDict(train=run.dataset("generations")))


def test_shuffled_and_filtered_generations_pair_by_their_rows(run: synthgen.Run) -> None:
    generations = run.dataset("generations")
    pairs = synthgen.pair(generations).pairs
    assert synthgen.pair(generations.shuffle(seed=1)).pairs.equals(pairs)
    some = sorted(set(generations["prompt_id"]))[::2]
    found = synthgen.pair(generations.filter(lambda row: row["prompt_id"] in some)).pairs
    assert found.equals(pairs.filter(pc.is_in(pairs["prompt_id"], pa.array(some))))


def test_published_generations_give_the_run_s_pairs(run: synthgen.Run) -> None:
    published = datasets.load_dataset(f"{run.url}/dataset", "generations")
    found = synthgen.pair(datasets.concatenate_datasets(list(published.values())), seed=run.config.run.seed)
    unnamed = ["source", "metadata"]  # are the prompts'
    assert found.pairs.drop_columns(unnamed).equals(run.pair().pairs.drop_columns(unnamed))


def test_run_without_a_pair_opens_as_an_empty_data_set(settings: dict[str, Any], tmp_path: Path) -> None:
    directory = {"run": {**settings["run"], "dir": tmp_path / "run"}}
    with inline_runs():
        empty = synthgen.run({**settings, **directory, "pairs.min_margin": 100}, quiet=True)
    assert empty.dataset().num_rows == empty.frame().height == 0
    assert empty.dataset().column_names == empty.frame().columns


def test_plan_reads_as_the_command_prints_it(settings: dict[str, Any]) -> None:
    plan = synthgen.plan(settings)
    assert "pools" in str(plan)
    assert plan.to_dict()["stages"]


def test_run_in_an_object_store_opens_too(run: synthgen.Run, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.ledger.storage import open_storage
    from tests.object_stores import make_bucket

    url = make_bucket(s3_endpoint, monkeypatch) + "/run"
    source, target = open_storage(run.url), open_storage(url)
    for path in source.list(""):
        target.create(path, source.read(path))
    opened = synthgen.open_run(url)
    assert opened.frame().equals(run.frame())
    assert opened.dataset().column_names == run.dataset().column_names
    assert opened.pair().counts == run.pair().counts
