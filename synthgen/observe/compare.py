"""Two finished runs side by side: what differs in their configurations, what they have in common, and what came of it.

In: two run directories. Out: a `dict` of plain values (`compare_runs`), and tables of it (`render_comparison`). Of
`generations` whole columns are held in memory, the texts as hashes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from synthgen.config.saved import OF_THE_START, WHERE_NOT_WHAT, read_saved_config
from synthgen.export.files import ROOT
from synthgen.export.finished import open_dataset
from synthgen.export.manifest import Manifest
from synthgen.ledger.run_dir import RunDir
from synthgen.trust import list_findings
from synthgen.trust.scorers import compare_scores

if TYPE_CHECKING:
    import polars as pl

_MARKS = {"fine": "ok", "warning": "WARN", "unknown": "-"}
_RANKS = ("fine", "unknown", "warning")
_SHOWN = 60
"""Characters of a value in the table."""


def compare_runs(urls: Sequence[str]) -> dict[str, Any]:
    """Return two finished runs side by side; lists hold the first run's value and then the second's.

    Raises:
        ConfigError: one of them is no finished run.
    """
    opened = [open_dataset(url, "compare") for url in urls]
    manifests = [manifest for _, manifest in opened]
    completions = [_read_completions(*one) for one in opened]
    return {
        "runs": [run_dir.url for run_dir, _ in opened],
        "configuration": _list_differences(manifests),
        "figures": _list_figures(manifests, completions),
        "trust": _list_checks(manifests),
        "common": _measure_common(completions),
    }


def render_comparison(compared: Mapping[str, Any]) -> Any:
    """Return the comparison as tables for a terminal."""
    from rich.console import Group
    from rich.table import Table

    def make(title: str, rows: Mapping[str, Sequence[Any]]) -> Table:
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2))
        table.add_column(no_wrap=True, overflow="fold")  # a key is searched for, and so never broken
        for head in "AB":
            table.add_column(head, overflow="fold")
        for name, values in rows.items():
            table.add_row(name, *(_show(value) for value in values))
        return table

    runs = Table(show_header=False, box=None, padding=(0, 2))
    for letter, url in zip("AB", compared["runs"], strict=True):
        runs.add_row(letter, url)
    different = compared["configuration"]
    checks = {name: [one and one["verdict"] for one in both] for name, both in compared["trust"].items()}
    checks = {name: ["" if one is None else _MARKS[one] for one in both] for name, both in checks.items()}
    common = Table(title="in common", title_justify="left", show_header=False, box=None, padding=(0, 2))
    for name, value in compared["common"].items():
        common.add_row(name.replace("_", " "), _show(value))
    settings = make("settings that differ", different) if different else "the same settings"
    return Group(
        runs, "", settings, "", make("what came of it", compared["figures"]), "", make("the judge", checks), "", common
    )


def _list_differences(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """Return the keys of the configurations that differ, those left out that say where a run is and how it started."""
    flat = [dict(_flatten(asdict(read_saved_config(manifest.config)), "")) for manifest in manifests]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    return {key: [one.get(key) for one in flat] for key in keys if flat[0].get(key) != flat[1].get(key)}


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            if name not in WHERE_NOT_WHAT and name not in {f"run.{one}" for one in OF_THE_START}:
                yield from _flatten(item, name)
    else:
        yield prefix, getattr(value, "value", value)


def _list_figures(manifests: Sequence[Manifest], completions: Sequence[pl.DataFrame | None]) -> dict[str, list[Any]]:
    found = [_figures(manifest, table) for manifest, table in zip(manifests, completions, strict=True)]
    names = list(dict.fromkeys(name for one in found for name in one))
    return {name: [one.get(name) for one in found] for name in names}


def _figures(manifest: Manifest, completions: pl.DataFrame | None) -> dict[str, Any]:
    report = manifest.report
    pairs, labels, trust = report.get("pairs") or {}, report.get("labels") or {}, report.get("trust") or {}
    length = trust.get("length") or {}
    found: dict[str, Any] = {"prompts": report["prompts"]["kept"]}
    if pairs:
        found["pairs"] = pairs["made"]
        found["prompts with pairs"] = pairs["prompts_with_pairs"] / pairs["prompts"] if pairs["prompts"] else None
        found["ties"] = pairs["ties"]
        found |= {f"dropped: {reason}": count for reason, count in sorted(pairs["dropped_by_reason"].items())}
    if completions is not None and completions.height:
        scores, tokens = completions["score"], completions["tokens"]
        found["completions"] = completions.height
        found["failed completions"] = completions["failed"].sum()
        found |= {"tokens per completion": tokens.mean(), "median tokens": tokens.median()}
        found |= {"mean score": scores.mean(), "spread of scores": scores.std()}
    found["longer one chosen"] = length.get("longer_chosen_share")
    found["pairs that would turn round"] = labels.get("turn_round_share")
    for name, stage in report["stages"].items():
        found[f"{name}: output tokens"] = stage["output_tokens"]
        found[f"{name}: failed rows"] = stage["failed_rows"]
    price = read_saved_config(manifest.config).cluster.gpu_hour_usd
    billed = [stage["usd"] for stage in report["stages"].values() if stage.get("usd") is not None]
    hours = report.get("gpu_hours") or 0.0
    found["GPU-hours"] = hours
    found["dollars"] = sum(billed) + hours * price if billed or (price and hours) else None
    return found


def _list_checks(manifests: Sequence[Manifest]) -> dict[str, list[Any]]:
    """Return what each check of the judge says in either run: its worst verdict, and its sentences."""
    found: list[dict[str, dict[str, str]]] = []
    for manifest in manifests:
        checks: dict[str, dict[str, str]] = {}
        trust = manifest.report.get("trust")
        for finding in list_findings(trust) if trust else ():
            before = checks.get(finding.check)
            worst = max(finding.verdict, before["verdict"] if before else "fine", key=_RANKS.index)
            text = f"{before['text']} {finding.text}" if before else finding.text
            checks[finding.check] = {"verdict": worst, "text": text}
        found.append(checks)
    names = list(dict.fromkeys(name for checks in found for name in checks))
    return {name: [checks.get(name) for checks in found] for name in names}


def _read_completions(run_dir: RunDir, manifest: Manifest) -> pl.DataFrame | None:
    """Return prompt_id, completion_id, text (a hash), score, tokens, failed by completion; None: no such config."""
    import polars as pl

    paths = [file.path for file in manifest.files if file.path.startswith("generations/")]
    tables = []
    for path in paths:
        data = run_dir.storage.read(f"{ROOT}/{path}")
        columns = ["prompt_id", "completion_id", "text", "score", "output_tokens", "error"]
        table = pl.read_parquet(io.BytesIO(data), columns=columns)
        tables.append(
            table.select(
                "prompt_id",
                "completion_id",
                "score",
                text=pl.col("text").hash(),
                tokens="output_tokens",
                failed=pl.col("error").is_not_null(),
            )
        )
    return pl.concat(tables) if tables else None


def _measure_common(completions: Sequence[pl.DataFrame | None]) -> dict[str, Any]:
    """Return what both runs hold: prompts, the same completions, and how their scores and best completions agree."""
    import polars as pl

    first, second = completions
    if first is None or second is None:
        return {}
    prompts = first.select("prompt_id").unique().join(second.select("prompt_id").unique(), on="prompt_id")
    same = first.join(second, on=["prompt_id", "completion_id", "text"], how="inner", suffix="_b")
    same = same.filter(~pl.col("failed"))
    scored = same.drop_nulls(["score", "score_b"])
    found: dict[str, Any] = {"prompts": prompts.height, "completions_with_the_same_text": same.height}
    if scored.height:
        found["of_them_scored_in_both"] = scored.height
        found["mean_score_A"] = scored["score"].mean()
        found["mean_score_B"] = scored["score_b"].mean()
        found["rank_correlation_of_scores"] = _rank_correlation(scored)
        best = scored.group_by("prompt_id").agg(
            pl.len(),
            same=pl.col("completion_id").sort_by("score").last() == pl.col("completion_id").sort_by("score_b").last(),
        )
        several = best.filter(pl.col("len") > 1)
        found["prompts_with_the_same_best_completion"] = several["same"].mean()
        found |= _compare_orders(scored)
    return found


def _compare_orders(scored: pl.DataFrame) -> dict[str, Any]:
    """Return how often two completions of a prompt stand the other way round in the second run (95%, over prompts)."""
    import polars as pl

    ordered = scored.sort("prompt_id", "completion_id").with_columns(prompt=pl.col("prompt_id").rle_id())
    one, other, prompt = (ordered[name].to_numpy() for name in ("score", "score_b", "prompt"))
    agreement = compare_scores(one, other, prompt.astype("int64"))
    return {
        "preferences_compared": agreement["comparisons"],
        "preferences_that_turn_round": agreement["flip_rate"],
        "interval_of_these": agreement["flip_interval"],
        "rank_correlation_within_prompts": agreement["spearman"],
    }


def _rank_correlation(scored: pl.DataFrame) -> float | None:
    """Return Spearman's correlation, None where one run gave all the same score."""
    import polars as pl

    if scored.height < 3 or scored["score"].n_unique() == 1 or scored["score_b"].n_unique() == 1:
        return None
    value = scored.select(pl.corr("score", "score_b", method="spearman")).item()
    return None if value is None else float(value)


def _show(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}"
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
