"""What is printed at the end of a run: what it found, in sentences and a table, and what a user would type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.observe.report import printable
from synthgen.pairs.counts import describe_lengths, describe_losses

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
        for url, taken in stage.get("reused_rows", {}).items():
            reused += f", {taken:,} rows taken from {printable(url)}"
        usd = stage.get("usd")
        rows.add_row(name, done + reused + (f", ${usd:,.2f}" if usd is not None else ""))
        if stage["failed_rows"]:
            rows.add_row("", Text(describe_failures(stage["failures"], name, stage["directory"]), style="red"))
    if report.get("history"):
        rows.add_row("earlier turns", Text(describe_history(report["history"])))
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
        if (line := describe_lengths(report.get("lengths") or {})) is not None:
            found.append((line, False))
    return found


def name_next_command(report: Mapping[str, Any]) -> str | None:
    """Return the command that a user would type next: to read the report where it warns, else to see what is sent."""
    run_dir, pairs, trust = report.get("run_dir"), report["pairs"], report.get("trust")
    if not run_dir:
        return None
    if trust and (trust["warnings"] or not (pairs and pairs["made"])):
        return f"synthgen report run_dir={run_dir}"
    return f"synthgen publish run_dir={run_dir} publish.dry_run=true publish.repo_id=org/name"


def describe_history(history: Mapping[str, Any]) -> str:
    """Return a line on the turns before the last that were answered on the way."""
    text = f"{history['turns']:,} of {history['prompts']:,} prompts answered by {printable(history['generator'])}"
    failed = history["failed_prompts"]
    return f"{text}; {failed:,} prompts have one that could not be, and no completion" if failed else text


def describe_scorer(scorer: Mapping[str, Any]) -> str:
    """Return a line on what a scorer gave the completions, or the prompts."""
    of = "prompts" if "prompts" in scorer else "completions"
    parts = [f"{scorer['values']:,} of {scorer[of]:,} {of} have a value"]
    parts += [f"mean {scorer['mean']:.3g}"] if scorer["mean"] is not None else []
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
