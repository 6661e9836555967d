"""`preview`: a few prompts all the way through, in a run directory of their own that is removed again.

In: a configuration. Out: the prompts with all their completions, scores, ratings and rationales, side by side.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen.config import Config, ExportColumns
from synthgen.errors import RunFailedError
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.ledger.storage import open_storage
from synthgen.observe.report import printable
from synthgen.observe.view.samples import task_completion
from synthgen.records import concat_units, list_conversations, spell_calls, tell_turns
from synthgen.runtime.cluster import find_address
from synthgen.runtime.framing import settle_framing
from synthgen.runtime.run import run

CLIP = 1200
"""Characters of a completion that the terminal shows."""
RATIONALE_CLIP = 300
COLUMN = 36
"""Least width of a completion beside others, in terminal columns; narrower ones stand below each other."""


@dataclass(frozen=True)
class Preview:
    """What a preview gave: the report of its run, and per prompt what `synthgen.observe.view.make_sample` takes."""

    report: dict[str, Any]
    prompts: list[dict[str, Any]]


def make_preview(config: Config, *, quiet: bool = False) -> Preview:
    """Run the first `preview.prompts` prompts of `config` and return what came of them; `run.dir` is not touched.

    Raises:
        SynthgenError: as `synthgen.runtime.run.run`. The files of a run that failed are kept for their logs.
    """
    config, _ = settle_framing(config)
    count = config.preview.prompts
    limit = min(count, config.prompts.limit or count)
    with _directory(config) as directory:
        small = replace(
            config,
            prompts=replace(config.prompts, limit=limit),
            run=replace(config.run, dir=directory, unit_size=min(config.run.unit_size, limit)),
            judge=replace(config.judge, canary_fraction=0.0),
            export=replace(config.export, test_fraction=0.0, formats=[], columns=ExportColumns.all),
        )
        report = run(small, quiet=quiet)
        prompts = list(_read_prompts(RunDir(directory)))
    return Preview({**report, "run_dir": f"{config.run.dir} (preview)"}, prompts)


@contextlib.contextmanager
def _directory(config: Config) -> Iterator[str]:
    """Give an empty directory that all replicas see: beside `run.dir` on a cluster, a temporary one on this machine."""
    if find_address(config.cluster) is None:
        directory = tempfile.mkdtemp(prefix="synthgen-preview-")
    else:
        directory = f"{config.run.dir.rstrip('/')}.preview-{uuid.uuid4().hex[:8]}"
    failed = False
    try:
        yield directory
    except RunFailedError:
        failed = True
        raise
    finally:
        if not failed:
            open_storage(directory).delete_tree("")


def _read_prompts(run_dir: RunDir) -> Iterator[dict[str, Any]]:
    """Yield the run's prompts in order with their completions, the sides of a pair marked."""
    prompts = concat_units(run_dir.read_unit(PROMPTS, unit) for unit in sorted(run_dir.committed(PROMPTS)))
    rows = _read_rows(run_dir, "data")
    pairs = {row["prompt_id"]: row for row in reversed(rows)}
    completions: dict[str, list[dict[str, Any]]] = {}
    asked: dict[str, Any] = {}  # with the answers to earlier turns
    for row in _read_rows(run_dir, "generations"):
        asked.setdefault(row["prompt_id"], row["prompt"])
        pair = pairs.get(row["prompt_id"], {})
        sides = [side for side in ("chosen", "rejected") if pair.get(f"{side}_completion_id") == row["completion_id"]]
        completions.setdefault(row["prompt_id"], []).append(
            {
                "role": "".join(sides),
                "text": spell_calls(row["text"], json.loads(row.get("tool_calls") or "[]"))
                if row["error"] is None
                else f"(failed: {row['error']})",
                "model": row["model"],
                "score": row["score"],
                "tokens": row["output_tokens"],
                "judgements": row["judgements"],
            }
        )
    for row in rows if not completions else ():  # of a task
        completions.setdefault(row["prompt_id"], []).append(task_completion(row))
    for prompt, messages in zip(prompts.to_pylist(), list_conversations(prompts), strict=True):
        pair = pairs.get(prompt["prompt_id"], {})
        yield {
            "prompt_id": prompt["prompt_id"],
            "source": prompt["source"],
            "prompt": tell_turns(asked.get(prompt["prompt_id"], messages)),
            "pair_policy": pair.get("pair_policy"),
            "score_margin": pair.get("score_margin"),
            "completions": completions.get(prompt["prompt_id"], []),
        }


def _read_rows(run_dir: RunDir, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    paths = [path for path in run_dir.storage.list(f"dataset/{name}") if path.endswith(".parquet")]
    return [row for path in paths for row in pq.read_table(pa.BufferReader(run_dir.storage.read(path))).to_pylist()]


def write_preview(preview: Preview, path: Path) -> None:
    """Write the preview as a page.

    Raises:
        RunFailedError: the file cannot be written.
    """
    from synthgen.observe.view import make_html

    page = make_html(preview.report, preview.prompts, noun="prompts")
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise RunFailedError(f"preview.html={path} cannot be written: {error.strerror}") from error


def render_preview(preview: Preview, width: int) -> Any:
    """Return what a terminal of `width` columns shows: completions side by side where they fit."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.text import Text

    parts: list[Any] = []
    for number, prompt in enumerate(preview.prompts, start=1):
        title = f"prompt {number} of {len(preview.prompts)} · {prompt['source']}"
        parts.append(Rule(Text(printable(title)), align="left"))
        for turn in prompt["prompt"]:
            parts += [Text(turn["role"], style="bold"), Text(_clip(turn["content"], CLIP)), Text()]
        panels = [_render_completion(completion) for completion in prompt["completions"]]
        parts += [_side_by_side(panels, max(1, width // COLUMN)), Text()]
    return Group(*parts, _render_summary(preview.report))


def _render_completion(completion: Mapping[str, Any]) -> Any:
    from rich.panel import Panel
    from rich.text import Text

    role = completion.get("role") or ""
    colour = {"chosen": "green", "rejected": "red"}.get(role, "default")
    heading = [role, completion["model"]]
    if completion.get("score") is not None:
        heading.append(f"score {completion['score']:.2f}")
    body = Text(_clip(completion["text"] or "", CLIP))
    for name, value in completion.get("facts") or []:
        body.append(f"\n\n{name}: ", style="bold").append(_clip(value, RATIONALE_CLIP))
    judgements = completion.get("judgements") or []
    repeated = any(judgement["repetition"] for judgement in judgements)
    for judgement in judgements:
        rating = "no rating" if judgement["rating"] is None else str(judgement["rating"])
        if judgement["expected"] is not None:
            rating += f" (expected {judgement['expected']:.2f})"
        order = f", order {judgement['repetition'] + 1}" if repeated else ""
        body.append(f"\n\n{judgement['aspect']}{order}: {rating}", style="bold")
        if judgement["rationale"]:
            body.append(f"\n{_clip(judgement['rationale'], RATIONALE_CLIP)}", style="italic")
    title = Text(" · ".join(printable(part) for part in heading if part), style=f"bold {colour}")
    return Panel(body, title=title, title_align="left", border_style=colour)


def _side_by_side(panels: Sequence[Any], columns: int) -> Any:
    from rich.table import Table

    columns = max(1, min(columns, len(panels)))
    grid = Table.grid(expand=True)
    for _ in range(columns):
        grid.add_column(ratio=1, overflow="fold")
    for start in range(0, len(panels), columns):
        grid.add_row(*panels[start : start + columns])
    return grid


def _render_summary(report: Mapping[str, Any]) -> Any:
    from rich.text import Text

    pairs = report["pairs"]
    dropped = [f"{count} {reason}" for reason, count in sorted(pairs.get("dropped_by_reason", {}).items())]
    tokens = sum(stage["output_tokens"] for stage in report["stages"].values())
    counts = [(report["prompts"]["kept"], "prompt")]
    counts += [(pairs[key], noun) for key, noun in (("made", "pair"), ("ties", "tie")) if key in pairs]
    parts = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts]
    return Text(" · ".join([*parts, *dropped, f"{tokens:,} output tokens", "nothing was kept"]))


def _clip(text: str, limit: int) -> str:
    shown = printable(text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text) - limit:,} more characters)"
