"""Death inside a real vLLM engine: one worker of a tensor-parallel pair; SYNTHGEN_ALL_SIGNALS=1: its EngineCore too.

`make chaos` kills either at random moments.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.command_line import Started, committed_units
from tests.small_runs import write_prompts

PROMPTS = 64
DEATHS = [("VLLM::Worker_TP1", 2)]
if os.environ.get("SYNTHGEN_ALL_SIGNALS"):
    DEATHS.append(("VLLM::EngineCore", 1))


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize(("title", "tensor_parallel_size"), DEATHS)
def test_death_of_a_vllm_process(tmp_path: Path, title: str, tensor_parallel_size: int) -> None:
    run_dir = tmp_path / "run"
    prompts = write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    arguments = [
        "run",
        "experiment=tiny",
        f"prompts.path={prompts}",
        f"run.dir={run_dir}",
        "judge.rationale=none",
        "run.unit_size=16",
        f"generators.main.model.tensor_parallel_size={tensor_parallel_size}",
        f"judge.model.tensor_parallel_size={tensor_parallel_size}",
    ]
    with Started(arguments, tmp_path / "log") as started:
        started.wait_for(lambda: len(committed_units(run_dir, "generate-main")) >= 1, "a committed unit")
        before = {path: path.read_bytes() for path in committed_units(run_dir, "generate-main")}
        victims = started.descendants(title)
        assert victims
        below = started.descendants()
        victims[0].kill()
        assert started.process.wait(300) == 0, started.log.read_text()[-3000:]
    assert "died with" in (run_dir / "logs" / "driver.log").read_text()
    assert all(path.read_bytes() == data for path, data in before.items())
    tables = [pq.read_table(path) for path in committed_units(run_dir, "generate-main")]
    ids = [prompt_id for table in tables for prompt_id in table["prompt_id"].to_pylist()]
    assert len(ids) == PROMPTS * 4
    assert len(set(ids)) == PROMPTS
    assert not any(process.is_running() and "VLLM" in _name(process) for process in below)
    assert "Traceback" not in started.log.read_text()


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""
