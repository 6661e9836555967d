from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.ledger.run_dir import RunDir
from synthgen.observe.view import make_sample, sample_pairs


def test_sample_pairs_joins_what_the_judge_said(run_dir: RunDir, pairs: list[dict[str, Any]]) -> None:
    found = sample_pairs(run_dir, limit=100)
    assert [pair["prompt_id"] for pair in found] == [pair["prompt_id"] for pair in pairs]
    for pair in found:
        for side in ("chosen", "rejected"):
            assert pair[side][0]["content"][:40] == pair[f"{side}_judgements"][0]["rationale"].removeprefix(
                "because of "
            )


def test_sample_pairs_of_minimal_columns_have_the_texts_alone(run_dir: RunDir, pairs: list[dict[str, Any]]) -> None:
    names = ["prompt", "chosen", "rejected"]
    for path in run_dir.storage.list("dataset/data"):
        sink = pa.BufferOutputStream()
        pq.write_table(pq.read_table(pa.BufferReader(run_dir.storage.read(path))).select(names), sink)
        run_dir.storage.replace(path, sink.getvalue().to_pybytes())
    found = sample_pairs(run_dir, limit=100)
    assert [list(pair) for pair in found] == [names] * len(pairs)
    sample = make_sample(found[0])
    assert [completion["text"] for completion in sample["completions"]] == [
        pairs[0][side][0]["content"] for side in ("chosen", "rejected")
    ]
    assert sample["margin"] is None


def test_sample_pairs_draws_the_same_rows_for_the_same_seed(run_dir: RunDir) -> None:
    first, again, other = (sample_pairs(run_dir, limit=9, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    ids = [pair["prompt_id"] for pair in first]
    assert len(set(ids)) == 9
    assert ids == sorted(ids)


def test_sample_pairs_of_a_run_without_pairs_is_empty(tmp_path: Path) -> None:
    assert sample_pairs(RunDir(str(tmp_path))) == []


def test_sample_pairs_works_without_generations(run_dir: RunDir) -> None:
    run_dir.storage.delete_tree("dataset/generations")
    assert "chosen_judgements" not in sample_pairs(run_dir, limit=1)[0]


def test_make_sample_takes_a_row_of_the_data_set(pairs: list[dict[str, Any]]) -> None:
    sample = make_sample(pairs[5])
    assert [one["role"] for one in sample["completions"]] == ["chosen", "rejected"]
    assert sample["completions"][0] == {
        "role": "chosen", "text": "good answer 5", "model": "model-a", "score": 4.05, "tokens": 7, "facts": [],
        "ratings": [],
    }  # fmt: skip
    assert sample["margin"] == 2.05


def test_make_sample_takes_completions_of_any_number() -> None:
    rating = {"aspect": "honesty", "repetition": 1, "rating": 2, "expected": None, "rationale": "r", "status": "ok"}
    row = {"prompt": [{"role": "user", "content": "q"}], "completions": [{"text": "a", "judgements": [rating]}] * 3}
    sample = make_sample(row)
    assert [one["text"] for one in sample["completions"]] == ["a"] * 3
    kept = {key: value for key, value in rating.items() if key != "status"}
    assert sample["completions"][0]["ratings"] == [kept]


def test_make_sample_takes_a_row_of_a_task() -> None:
    row = {
        "prompt_id": "1", "prompt": [{"role": "user", "content": "q"}], "scores": [3, 4], "note": None,
        "sample_index": 0,
        "model_name": "m", "raw_text": '{"scores": [3, 4]}', "error": None, "source": "s", "metadata": "{}",
    }  # fmt: skip
    (completion,) = make_sample(row)["completions"]
    assert (completion["text"], completion["model"]) == ('{"scores": [3, 4]}', "m")
    assert completion["facts"] == [["scores", "[3, 4]"]]
    (failed,) = make_sample({**row, "raw_text": None, "error": "timeout"})["completions"]
    assert failed["text"].startswith("(failed: timeout)")


def test_sample_pairs_reads_rows_of_a_task(tmp_path: Path) -> None:
    rows = [{"prompt_id": str(i), "scores": [i], "raw_text": "t", "model_name": "m"} for i in range(5)]
    path = tmp_path / "dataset" / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert sample_pairs(RunDir(str(tmp_path))) == rows
