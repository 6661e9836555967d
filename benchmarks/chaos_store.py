"""Chaos in the object store: a run whose every request may stumble, on a real S3-speaking server behind a proxy.

    python -m benchmarks.chaos_store --faults 500 --seed 1

Two kinds of start take turns. In one, requests meet latency, 503, 429, resets before and after the answer, slow and cut
answers, and the whole store is away for a few seconds: the run has to come to its end by itself. In the other the
store refuses one kind of request (403) from some moment on: the run has to end with one line and a true state, and
the same command has to finish it once the right is given back. The dataset is that of an undisturbed run, to the byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fault_proxy import FAULTS, KINDS, FaultProxy, moto_server, s3_environment

BUCKET = "chaos"
LIMIT_S = 900.0
OVERRIDES = ("experiment=echo", "prompts.limit=64", "run.unit_size=4", "cluster.num_cpus=2", "storage.retry_s=120")
STUMBLE = 0.15
"""Share of the requests that meet a fault."""
AWAY_S = (2.0, 8.0)
PASSING = tuple(fault for fault in FAULTS if fault != "403")
ENDED = ("complete", "failed", "stopped")


@dataclass
class StoreResult:
    """What the chaos found. `untrue_states`: of runs that had ended, and whose `status.json` did not say so."""

    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    refused: int = 0
    failed_although_all_passes: int = 0
    untrue_states: int = 0
    not_one_line: int = 0
    differences: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every run ended as it should, with the right data set."""
        bad = self.failed_although_all_passes + self.untrue_states + self.not_one_line
        return bad + len(self.differences) == 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "faults": self.faults.total(),
            "faults_by_kind": dict(sorted(self.faults.items())),
            "runs": self.runs,
            "refused_starts": self.refused,
            "failed_although_all_passes": self.failed_although_all_passes,
            "untrue_states": self.untrue_states,
            "not_one_line": self.not_one_line,
            "dataset_equal": not self.differences,
            "differences": self.differences,
            "elapsed_s": self.elapsed_s,
        }


class Weather:
    """The plan of a proxy: clear, stumbling, or refusing one kind of request from some request on."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._away_until = 0.0
        self.stumbles = False
        self.refuses: str | None = None
        self.refuses_after = 0

    def __call__(self, kind: str, path: str) -> str | None:
        with self._lock:
            if self.refuses == kind:
                self.refuses_after -= 1
                return "403" if self.refuses_after < 0 else None
            if not self.stumbles:
                return None
            now = time.monotonic()
            if now < self._away_until:
                return "503"
            if self._rng.random() < 0.002:
                self._away_until = now + self._rng.uniform(*AWAY_S)
            return self._rng.choice(PASSING) if self._rng.random() < STUMBLE else None


def run_store_chaos(faults: int, seed: int) -> StoreResult:
    """Return what at least `faults` faults did to runs in an object store."""
    rng = random.Random(f"store/{seed}")
    result = StoreResult()
    began = time.monotonic()
    with moto_server() as upstream, tempfile.TemporaryDirectory(prefix="synthgen-chaos-") as scratch:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=upstream,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=BUCKET)
        calm = Path(scratch, "calm")
        if _start(str(calm), {}, Path(scratch, "calm.log")) != 0:
            raise SystemExit(Path(scratch, "calm.log").read_text()[-4000:])
        expected = {
            str(path.relative_to(calm)): path.read_bytes() for path in sorted((calm / "dataset").rglob("*.parquet"))
        }
        weather = Weather(rng)
        with FaultProxy(upstream, weather) as proxy:
            while result.faults.total() < faults:
                _one_run(result, weather, proxy, client, expected, Path(scratch, f"run-{result.runs}.log"), rng)
                counted = Counter({f"{kind} {fault}": n for (kind, fault), n in proxy.done.items() if fault})
                result.faults = counted
    result.elapsed_s = round(time.monotonic() - began, 1)
    return result


def _one_run(
    result: StoreResult,
    weather: Weather,
    proxy: FaultProxy,
    client: Any,
    expected: dict[str, bytes],
    log: Path,
    rng: random.Random,
) -> None:
    number = result.runs
    result.runs += 1
    prefix = f"run-{number}"
    environment = s3_environment(proxy.url)
    weather.stumbles = True
    if number % 2:
        weather.refuses, weather.refuses_after = rng.choice(KINDS), rng.randrange(40)
        status = _start(f"s3://{BUCKET}/{prefix}", environment, log)
        weather.refuses = None
        print(f"run {number}: refused, exit status {status}", file=sys.stderr, flush=True)
        if status != 0:
            result.refused += 1
            result.not_one_line += _is_not_one_line(log)
            result.untrue_states += _state(client, prefix) not in (*ENDED, None)
    log.unlink(missing_ok=True)
    status = _start(f"s3://{BUCKET}/{prefix}", environment, log)
    print(f"run {number}: exit status {status}", file=sys.stderr, flush=True)
    weather.stumbles = False
    if status != 0:
        result.failed_although_all_passes += 1
        print(log.read_text()[-2000:], file=sys.stderr, flush=True)
    result.untrue_states += _state(client, prefix) not in ENDED
    found = _read_dataset(client, prefix)
    result.differences += [
        f"{prefix}/{name}" for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)
    ]


def _start(run_dir: str, environment: dict[str, str], log: Path) -> int:
    command = [sys.executable, "-m", "synthgen", "run", f"run.dir={run_dir}", *OVERRIDES]
    with open(log, "ab") as handle:
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=handle,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            timeout=LIMIT_S,
            check=False,
        )
    return done.returncode


def _is_not_one_line(log: Path) -> bool:
    """Whether the last words of a run that failed are not a line of ours."""
    text = log.read_text(encoding="utf-8", errors="replace")
    last = text.strip().rsplit("\n", 1)[-1]
    return "Traceback" in text or "Debug source" in text or "unexpected" in text or not last.startswith("synthgen: ")


def _state(client: Any, prefix: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        body = client.get_object(Bucket=BUCKET, Key=f"{prefix}/status.json")["Body"].read()
    except ClientError:
        return None
    state: str | None = json.loads(body).get("state")
    return state


def _read_dataset(client: Any, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/dataset/"):
        for item in page.get("Contents", ()):
            if item["Key"].endswith(".parquet"):
                body = client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
                found[item["Key"].removeprefix(f"{prefix}/")] = body
    return found


def main() -> None:
    """Run the chaos that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = run_store_chaos(options.faults, options.seed)
    print(json.dumps(result.as_json(), indent=2))
    sys.exit(0 if result.good else 1)


if __name__ == "__main__":
    main()
