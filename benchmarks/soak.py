"""Soak: a whole run against an endpoint that fails at random; nothing may be lost, and little paid twice.

    python -m benchmarks.soak --requests 2000 --faults 0.2 --seed 1

Prints JSON: rows lost, tokens paid over tokens needed (at most 1.1), requests sent, faults by kind, seconds. A third of
the kinds of faults come after the model has worked, and are paid. Exit status 1 where something was lost or too much
was paid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.soak_server import OUTPUT_TOKENS, PROMPT_TOKENS, SoakServer, serve

SAMPLES = 4
MOST_PAID = 1.1


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--faults", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="synthgen-soak-") as directory:
        found = asyncio.run(soak(Path(directory), options.requests, options.faults, options.seed))
    print(json.dumps(found, indent=2))
    return 0 if found["rows_lost"] == 0 and found["paid_over_needed"] <= MOST_PAID else 1


async def soak(directory: Path, requests: int, faults: float, seed: int) -> Mapping[str, Any]:
    """Return what a run of `requests` samples came to."""
    prompts = directory / "prompts.jsonl"
    lines = [json.dumps({"prompt": f"Question number {number}?"}) for number in range(requests // SAMPLES)]
    prompts.write_text("\n".join(lines) + "\n")
    run_dir = directory / "run"
    async with serve(SoakServer(faults, seed, latency_s=0.05)) as server:
        command = [
            sys.executable, "-m", "synthgen", "run", "experiment=echo", f"prompts.path={prompts}", "prompts.limit=null",
            "model@generators.main.model=openai_endpoint", "generators.main.model.id=soaked",
            f"generators.main.model.endpoint.base_url={server.url}", f"generators.main.n={SAMPLES}",
            "cluster.num_cpus=4", f"run.dir={run_dir}",
        ]  # fmt: skip
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        took = time.monotonic() - began
    if process.returncode:
        raise SystemExit(output.decode(errors="replace")[-3000:])
    stage = json.loads((run_dir / "report.json").read_text())["stages"]["generate-main"]
    needed = requests * (PROMPT_TOKENS + OUTPUT_TOKENS)
    return {
        "rows": stage["rows"],
        "rows_lost": requests - (stage["rows"] - stage["failed_rows"]),
        "failures": stage["failures"],
        "paid_over_needed": round(server.paid_tokens / needed, 4),
        "requests": server.requests,
        "faults": dict(server.faults),
        "seconds": round(took, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
