"""Chaos: kill a random part of a run at a random moment, start it again, and compare with a run that nothing disturbed.

    python -m benchmarks.chaos --echo 100 --tiny 15 --store 500 --histories 200 --seed 1

Prints JSON: kills by kind, rows lost, rows doubled, and whether the dataset equals the undisturbed one: to the byte
with `echo`; in prompt ids, counts and schema with a real engine, whose text may differ with the batches it ran in.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.chaos_histories import TestsResult, run_damages, run_exports, run_histories, run_signals
from benchmarks.chaos_kills import KILLS, Scene, draw_kind, tear_a_unit
from benchmarks.chaos_store import StoreResult, run_store_chaos

START_LIMIT_S = 400.0
LEFT_OVER_LIMIT_S = 30.0


@dataclass(frozen=True)
class Setup:
    """A run that chaos is let loose on. `on_cluster`: on a Ray cluster of three nodes instead of an embedded Ray."""

    name: str
    overrides: tuple[str, ...]
    on_cluster: bool = False


COMMON = ("run.grace_s=2", "run.unit_size=4", "cluster.max_engine_restarts=100", "cluster.max_load_attempts=10")
ECHO = (
    "experiment=echo", "prompts.limit=160", "judge.canary_fraction=0.1", "cluster.stall_timeout_s=6",
    "generators.main.model.echo.tokens_per_s=40", "judge.model.echo.tokens_per_s=40",
)  # fmt: skip
TINY = ("experiment=tiny", "prompts.limit=64", "cluster.num_cpus=4", "cluster.stall_timeout_s=45")
SCORERS = (
    f"scorers.even.kind=python:{Path(__file__).with_name('slow_check.py')}:has_even_words",
    "+scorers.short.kind=constraints", "pairs.weights={judge: 1, even: 0.5}", "pairs.chosen_must_pass=[even]",
    "scorers.short.constraints=[{id: length_constraints:number_words, num_words: 40, relation: at most}]",
)  # fmt: skip
TWO_PROCESSES = ("generators.main.model.tensor_parallel_size=2", "judge.model.tensor_parallel_size=2")

SETUPS = {
    "echo": (
        Setup("one pool, embedded Ray", (*ECHO, "cluster.num_cpus=4")),
        Setup("scorers, embedded Ray", (*ECHO, *SCORERS, "cluster.num_cpus=4")),
        Setup("two pools, cluster", (*ECHO, "judge.model.name=judge", "generators.main.model.replicas=2"), True),
    ),
    "tiny": (Setup("tensor parallel size 1", TINY), Setup("tensor parallel size 2", (*TINY, *TWO_PROCESSES))),
}
"""By engine; runs take turns."""


@dataclass
class Result:
    """What a chaos run found."""

    engine: str
    kills: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    runs: int = 0
    rows_lost: int = 0
    rows_doubled: int = 0
    differences: list[str] = field(default_factory=list)
    tracebacks: int = 0
    left_over_processes: int = 0
    elapsed_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or changed, and nobody was shown a traceback."""
        bad = self.rows_lost + self.rows_doubled + len(self.differences) + self.tracebacks + self.left_over_processes
        return bad == 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "engine": self.engine,
            "kills": self.kills.total(),
            "kills_by_kind": dict(sorted(self.kills.items())),
            "starts": dict(self.starts),
            "exit_statuses": {str(status): count for status, count in sorted(self.ends.items())},
            "completed_runs": self.runs,
            "rows_lost": self.rows_lost,
            "rows_doubled": self.rows_doubled,
            "dataset_equal": not self.differences,
            "differences": self.differences,
            "tracebacks": self.tracebacks,
            "left_over_processes": self.left_over_processes,
            "elapsed_s": self.elapsed_s,
        }


def main() -> None:
    """Run the chaos that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--echo", type=int, default=100, help="kills over echo runs")
    parser.add_argument("--tiny", type=int, default=15, help="kills over runs of the tiny model on vLLM")
    parser.add_argument("--store", type=int, default=500, help="faults of an object store (benchmarks.chaos_store)")
    parser.add_argument("--histories", type=int, default=200, help="random histories (benchmarks.chaos_histories)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="directory to work in and keep")
    options = parser.parse_args()
    root = options.keep or Path(tempfile.mkdtemp(prefix="synthgen-chaos-"))
    root.mkdir(parents=True, exist_ok=True)
    results: list[Result | StoreResult | TestsResult] = []

    def add(result: Result | StoreResult | TestsResult) -> None:
        results.append(result)
        print(json.dumps(result.as_json()), file=sys.stderr, flush=True)  # what is over is known if the rest is killed

    try:
        for engine, kills in (("echo", options.echo), ("tiny", options.tiny)):
            if kills:
                add(run_chaos(engine, kills, root / engine, options.seed))
        if options.store:
            add(run_store_chaos(options.store, options.seed))
        if options.histories:
            add(run_histories(options.histories))
            for one in (run_damages, run_exports, run_signals):
                add(one())
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    print(json.dumps([result.as_json() for result in results], indent=2))
    sys.exit(0 if all(result.good for result in results) else 1)


def run_chaos(engine: str, kills: int, root: Path, seed: int) -> Result:
    """Return what `kills` random kills did to runs of `engine`; a run that completes in between is checked at once."""
    rng = random.Random(f"{engine}/{seed}")
    result = Result(engine)
    began = time.monotonic()
    root.mkdir(parents=True, exist_ok=True)
    calm: dict[str, tuple[float, dict[str, Any]]] = {}
    while result.kills.total() < kills:
        setup = SETUPS[engine][result.runs % len(SETUPS[engine])]
        with _cluster_for(setup) as cluster:
            if setup.name not in calm:
                directory = root / f"calm-{len(calm)}"
                length_s = _run_to_end(setup, directory, cluster)
                calm[setup.name] = length_s, read_dataset(directory)
            length_s, expected = calm[setup.name]
            directory = root / f"run-{result.runs}"
            _one_run(setup, cluster, directory, rng, result, kills, length_s)
        result.runs += 1
        _compare(read_dataset(directory), expected, result, exact=engine == "echo")
        shutil.rmtree(directory, ignore_errors=True)
    result.elapsed_s = round(time.monotonic() - began, 1)
    return result


def _one_run(
    setup: Setup, cluster: Any, directory: Path, rng: random.Random, result: Result, kills: int, length_s: float
) -> None:
    """Start one run again and again, killing something at random moments, until it completes."""
    while True:
        result.starts[setup.name] += 1
        process = _start(setup, directory, cluster)
        scene = Scene(process.pid, directory, rng, cluster)
        family: set[psutil.Process] = set()
        deadline = time.monotonic() + START_LIMIT_S
        kind = draw_kind(rng)
        try:
            while process.poll() is None:
                # Kills fall into start-up, work, commits and the export alike.
                _wait(process, rng.uniform(0.02, 0.3) * length_s)
                # A kind that finds no victim yet (no replica has started) waits for one; one that never will does not.
                for _ in range(40):
                    family |= set(scene.find())
                    if process.poll() is not None or result.kills.total() >= kills:
                        break
                    if KILLS[kind][0](scene):
                        _note(kind, setup, result)
                        break
                    _wait(process, 0.01 * length_s)
                kind = draw_kind(rng)
                if time.monotonic() > deadline:
                    raise SystemExit(f"no end in {START_LIMIT_S} s:\n{_log(directory)[-4000:]}")
        finally:
            if process.poll() is None:
                process.kill()
        result.ends[process.wait()] += 1
        result.left_over_processes += _count_left_over(family)
        if process.returncode == 0:
            break
        if rng.random() < 0.2 and result.kills.total() < kills and tear_a_unit(scene):
            _note("torn_unit_file", setup, result)
    result.tracebacks += _log(directory).count("Traceback")


def _note(kind: str, setup: Setup, result: Result) -> None:
    result.kills[kind] += 1
    print(f"{setup.name}: kill {result.kills.total()}: {kind}", file=sys.stderr, flush=True)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _log(directory: Path) -> str:
    return (directory.parent / f"{directory.name}.log").read_text(encoding="utf-8", errors="replace")


def _start(setup: Setup, directory: Path, cluster: Any) -> subprocess.Popen[bytes]:
    directory.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "synthgen", "run", f"run.dir={directory}", *COMMON, *setup.overrides]
    environment = {**os.environ, **({"RAY_ADDRESS": cluster.address} if cluster else {})}
    with open(directory.parent / f"{directory.name}.log", "ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
        )


def _run_to_end(setup: Setup, directory: Path, cluster: Any) -> float:
    began = time.monotonic()
    if _start(setup, directory, cluster).wait(START_LIMIT_S) != 0:
        raise SystemExit(_log(directory)[-4000:])
    return time.monotonic() - began


@contextlib.contextmanager
def _cluster_for(setup: Setup) -> Iterator[Any]:
    """Give the setup its Ray cluster, if it wants one: a head that runs nothing, and two nodes."""
    if not setup.on_cluster:
        yield None
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        yield cluster
    finally:
        cluster.shutdown()


def read_dataset(directory: Path) -> dict[str, Any]:
    """Return what is compared: for each Parquet file of the dataset its digest, prompt ids, rows and schema."""
    found: dict[str, Any] = {}
    for path in sorted((directory / "dataset").rglob("*.parquet")):
        table = pq.read_table(path)
        found[str(path.relative_to(directory))] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "schema": str(table.schema.remove_metadata()),
            "prompt_ids": Counter(table["prompt_id"].to_pylist()),
        }
    return found


def _compare(actual: dict[str, Any], expected: dict[str, Any], result: Result, *, exact: bool) -> None:
    generations = [name for name in expected if "/generations/" in name]
    want = sum((expected[name]["prompt_ids"] for name in generations), Counter())
    have = sum((actual[name]["prompt_ids"] for name in generations if name in actual), Counter())
    result.rows_lost += (want - have).total()
    result.rows_doubled += (have - want).total()
    keys = ("sha256",) if exact else ("schema", "prompt_ids")
    names = sorted(set(actual) | set(expected)) if exact else generations
    result.differences += [
        name
        for name in names
        if name not in actual or name not in expected or any(actual[name][key] != expected[name][key] for key in keys)
    ]


def _count_left_over(family: set[psutil.Process]) -> int:
    """Return how many of a start's replicas and engines still live some time after its driver ended."""
    ours = [process for process in family if _is_engine(process)]
    _, alive = psutil.wait_procs(ours, timeout=LEFT_OVER_LIMIT_S)
    return len(alive)


def _is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(title in process.name() + " ".join(process.cmdline()) for title in ("ray::Replica", "VLLM::"))
    return False


if __name__ == "__main__":
    main()
