"""A real run on real vLLM, watched from outside: tokens rise while no row is there yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 400


def read_status(path: Path) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return status


@pytest.mark.vllm
@pytest.mark.slow
def test_status_counts_tokens_while_the_first_unit_is_being_made(tmp_path: Path) -> None:
    overrides = [
        "experiment=tiny", f"run.dir={tmp_path / 'run'}", "prompts.limit=16", "run.unit_size=16",
        "generators.main.sampling.max_tokens=400", "generators.main.sampling.ignore_eos=true",
        "generators.main.model.max_num_seqs=4", "judge.model.max_num_seqs=4", "judge.canary_fraction=0",
        "generators.main.n=2",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    seen: list[tuple[str, int, int]] = []
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "synthgen", "run", *overrides], stdout=said, stderr=said, env=environment
        ) as process,
    ):
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None:
            assert time.monotonic() < deadline, (tmp_path / "said").read_text()
            status = read_status(tmp_path / "run/status.json")
            stage = status.get("stages", {}).get("generate-main")
            if stage is not None:
                phases = [replica["phase"] for replica in status["replicas"] if replica["phase"]]
                seen.append((" ".join(phases), stage["rows"], stage["output_tokens"]))
            time.sleep(1.0)  # a second between two looks is what is asked of it
    assert process.returncode == 0, (tmp_path / "said").read_text()
    early = [tokens for _, rows, tokens in seen if rows == 0]
    assert len({tokens for tokens in early if tokens > 0}) >= 2, seen  # one unit: without it nothing would be seen
    tokens = [tokens for _, _, tokens in seen]
    assert tokens == sorted(tokens), seen
    assert any("starting" in phase or "weights" in phase for phase, _, _ in seen), seen
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert tokens[-1] == report["stages"]["generate-main"]["output_tokens"] == 16 * 2 * 400
