"""6. Scaling on this machine's driver: echo engines that take their time, 1 to 64 replicas, the same work for each.

Efficiency is the rate per replica over that of one replica alone. Service times are long-tailed and the work per
replica is the same at every size, so what the drain at the end costs grows only with the longest of all tails. The
driver sees 64 replicas; they share processes, since a small machine cannot start 64.
"""

from __future__ import annotations

from typing import Any

from benchmarks.engines import Engines
from benchmarks.generate import Case, make_stages
from benchmarks.outcome import Outcome, Target
from benchmarks.rows import ECHO

UNIT_PROMPTS, N = 16, 4
UNITS_EACH, QUICK_UNITS_EACH = 32, 3
REPLICAS, QUICK_REPLICAS = (1, 16, 64), (1, 2)
PER_PROCESS = 16
MAX_NUM_SEQS, TOKENS_PER_S = 16, 120.0
"""An engine that gives about 80 completions of 24 tokens per second: more than ten H200s give of 500 tokens at 70B
(docs/performance.md)."""


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return completions per second and efficiency at each number of replicas."""
    rows: list[dict[str, Any]] = []
    engines.free()
    engines.per_process = PER_PROCESS
    for replicas in QUICK_REPLICAS if quick else REPLICAS:
        units = replicas * (QUICK_UNITS_EACH if quick else UNITS_EACH)
        model = "generators.main.model"
        config, stages = make_stages(
            engines,
            Case("echo", N, units * UNIT_PROMPTS, 1),
            *ECHO,
            f"{model}.replicas={replicas}",
            f"{model}.max_num_seqs={MAX_NUM_SEQS}",
            f"{model}.echo.tokens_per_s={TOKENS_PER_S}",
            "generators.main.sampling.max_tokens=96",
            f"run.unit_size={UNIT_PROMPTS}",
        )
        engines.load(config, stages)
        report = engines.run(config, stages)["generate-main"]
        rate = report["rows"] / report["busy_s"]
        waiting = [replica["waiting_share"] or 0.0 for replica in engines.replicas]
        rows.append(
            {
                "replicas": replicas,
                "completions/s": round(rate, 1),
                "units/s": round(rate / UNIT_PROMPTS / N, 2),
                "efficiency": round(rate / replicas / (rows[0]["completions/s"] if rows else rate), 3),
                "waiting for work, share": round(sum(waiting) / max(1, len(waiting)), 4),
            }
        )
    engines.free()
    engines.per_process = 1
    kept = [row for row in rows if row["efficiency"] >= 0.95]
    notes = [
        f"Every replica simulates {MAX_NUM_SEQS} sequences at {TOKENS_PER_S:g} tokens/s and does "
        f"{UNITS_EACH} units of {UNIT_PROMPTS * N} completions.",
        f"{PER_PROCESS} replicas to a process, and all share this machine's cores with the driver.",
        f"Efficiency stays at 0.95 or more up to {kept[-1]['replicas']} replicas, {kept[-1]['completions/s']:,} "
        "completions/s.",
    ]
    at_16 = next((row["efficiency"] for row in rows if row["replicas"] == 16), rows[-1]["efficiency"])
    return Outcome(
        "scaling", "echo engines with long-tailed service times", rows, [Target("efficiency at 16", at_16, 0.95)], notes
    )
