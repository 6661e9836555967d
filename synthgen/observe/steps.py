"""Work on a model before a run (fetching, converting), as it is shown: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from synthgen.models.steps import Report

LINE_EVERY_S = 10.0


@contextlib.contextmanager
def shown_steps() -> Iterator[Report]:
    """Yield what is to be called as the work goes on; it shows nothing until then."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: int, total: int, seconds: float) -> None:
            if phase not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                tasks[phase] = progress.add_task(phase, total=total or None)
            progress.update(tasks[phase], completed=done)

        yield report


class _Lines:
    """A line per phase, and one every LINE_EVERY_S while it lasts."""

    def __init__(self) -> None:
        self._phase = ""
        self._told_at = 0.0

    def __call__(self, phase: str, done: int, total: int, seconds: float) -> None:
        now = time.monotonic()
        if phase == self._phase and now - self._told_at < LINE_EVERY_S:
            return
        self._phase, self._told_at = phase, now
        size = f", {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""
        print(f"synthgen: {phase}{size}", file=sys.stderr, flush=True)
