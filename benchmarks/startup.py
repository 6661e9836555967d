"""7. Start-up: what a command costs before its first request, and what a replica spends on imports and on loading."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.engines import Engines
from benchmarks.outcome import Outcome, spread
from benchmarks.work import write_prompts
from synthgen.ledger.run_dir import RunDir, unit_path

REPETITIONS = 2

_REPLICA = """
import json, sys, time
began = time.perf_counter()
laps = {}
def lap(name):
    global began
    now = time.perf_counter()
    laps[name] = now - began
    began = now
import ray; lap("import ray")
import pyarrow.parquet; import synthgen.runtime.replica; lap("import synthgen.runtime.replica")
if sys.argv[1] == "vllm":
    import torch; lap("import torch")
    from vllm.v1.engine.async_llm import AsyncLLM; lap("import vllm")
    import asyncio
    from synthgen.config import ModelConfig
    from synthgen.engines import make_engine
    async def load():
        engine = make_engine(ModelConfig(name="tiny", id="builtin:tiny"))
        await engine.start(); lap("load the tiny model")
        await engine.close(); lap("close")
    asyncio.run(load())
print(json.dumps(laps))
"""


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return seconds from a command to its first request, and of each part of a replica's start."""
    repetitions = 1 if quick else REPETITIONS
    engines.disconnect()
    times: dict[str, list[float]] = {}
    for _ in range(repetitions):
        times.setdefault("synthgen --help", []).append(_time_command("--help"))
        first, whole = _time_run(engines)
        times.setdefault("synthgen run, command to first request (echo)", []).append(first)
        times.setdefault("synthgen run, command to exit (echo, 64 prompts)", []).append(whole)
        for name, seconds in _time_replica("echo" if quick else "vllm").items():
            times.setdefault(f"replica: {name}", []).append(seconds)
    rows: list[dict[str, Any]] = [{"what": name, "s": spread(values, 2)} for name, values in times.items()]
    return Outcome("startup", f"seconds, {repetitions} repetitions", rows)


def _time_command(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "synthgen", *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def _time_run(engines: Engines) -> tuple[float, float]:
    """Return the seconds from a run's command to its first request, and to its end."""
    directory = engines.new_directory()
    prompts = write_prompts(engines.directory / "startup.jsonl", 64)
    began = time.time()
    whole = _time_command("run", "experiment=echo", f"run.dir={directory}", f"prompts.path={prompts}")
    stage = next(directory.glob("stages/generate-main-*"))
    relative = str(stage.relative_to(directory))
    assert Path(directory / unit_path(relative, 0)).exists()
    return RunDir(str(directory)).read_counts(relative, 0).started_at - began, whole


def _time_replica(engine: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", _REPLICA, engine], check=True, capture_output=True, text=True)
    laps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return laps
