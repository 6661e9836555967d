"""Whole runs in this process, without Ray: the ledger's view of a run, quick enough for hundreds of histories.

Everything is the project's own code but the executor, whose place a loop over one replica per pool takes; Ray's part is
what the chaos benchmark and tests/runtime/test_executor.py try. `Mortal` storage dies at a chosen change, as a process
does that is killed: nothing after that change reaches the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from synthgen.config.compose import compose_config
from synthgen.ledger import run_dir as run_dir_module
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.storage import Storage, open_storage
from synthgen.observe.snapshot import Snapshot, StageTotals
from synthgen.publish import card as card_module
from synthgen.publish.figures import FIGURES
from synthgen.runtime import session as session_module
from synthgen.runtime.failures import Held
from synthgen.runtime.pools import PoolSpec
from synthgen.runtime.replica import Replica
from synthgen.runtime.run import run
from synthgen.runtime.scheduler import Scheduler

CHANGES = ("create", "replace", "swap", "delete", "delete_tree", "replace_directory")


class Killed(BaseException):
    """The process is gone. No handler for errors sees it."""


class Life:
    """How many changes of storage are left to live; None: any number."""

    def __init__(self) -> None:
        self.left: int | None = None

    def spend(self) -> None:
        """Count a change, or die."""
        if self.left is None:
            return
        if self.left == 0:
            raise Killed
        self.left -= 1


class Mortal:
    """A storage whose every change spends some of a life."""

    def __init__(self, storage: Storage, life: Life) -> None:
        self._storage = storage
        self._life = life

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._storage, name)
        if name == "hurried":
            return lambda *args: Mortal(value(*args), self._life)
        if name not in CHANGES:
            return value

        def change(*args: Any, **kwargs: Any) -> Any:
            self._life.spend()
            return value(*args, **kwargs)

        return change


class InlineExecutor:
    """Runs a scheduler's tasks one after the other, with the interface of synthgen.runtime.executor.Executor."""

    notes: Sequence[str] = ()

    def __init__(self, run_dir: RunDir, scheduler: Scheduler, specs: Sequence[PoolSpec], **_: Any) -> None:
        self._scheduler = scheduler
        self._replicas = {
            spec.name: Replica(run_dir, spec.model, spec.stages, None, f"{spec.name}-0") for spec in specs
        }

    def stop(self, error: Exception) -> None:
        raise error

    def run(self) -> list[dict[str, Any]]:
        asyncio.run(self._run())
        return []

    def snapshot(self) -> Snapshot:
        return Snapshot({name: StageTotals() for name in self._scheduler.stages}, [], 0.0, 0.0)

    def replica_report(self) -> list[dict[str, Any]]:
        return []

    async def _run(self) -> None:
        for replica in self._replicas.values():
            await replica.start()
        while not self._scheduler.finished:
            for pool, replica in self._replicas.items():
                while (task := self._scheduler.next_task(pool, idle=True)) is not None:
                    counts = await replica.run(task)
                    if isinstance(counts, Held):
                        raise AssertionError(f"{task} was held")
                    self._scheduler.complete(task)
        for replica in self._replicas.values():
            await replica.close()


def draw_as_text(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what the figures show, as text: drawing them takes two thirds of a small run's time."""
    shown = report.get("histograms") or {}
    return {path: json.dumps(shown[key]).encode() for key, (path, *_) in FIGURES.items() if shown.get(key)}


@contextlib.contextmanager
def inline_runs() -> Iterator[Life]:
    """Let every run of this process be inline while the block runs, and give the life of its storage."""
    life = Life()

    def open_mortal(url: str, *args: Any, **kwargs: Any) -> Any:
        return Mortal(open_storage(url, *args, **kwargs), life)

    def no_ray(*_: Any, **__: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    class NoMetrics:
        def __init__(self, *_: Any) -> None: ...

        def observe(self, snapshot: Snapshot) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_dir_module, "open_storage", open_mortal)
        patch.setattr(session_module, "Executor", InlineExecutor)
        patch.setattr(session_module, "connect_ray", no_ray)
        patch.setattr(session_module, "RunMetrics", NoMetrics)
        patch.setattr(card_module, "make_figures", draw_as_text)
        yield life


def run_inline(overrides: Sequence[str]) -> dict[str, Any]:
    """Run a whole pipeline in this process, without Ray, and return its report."""
    with inline_runs():
        return run(compose_config(list(overrides)), quiet=True)


def killed_at(life: Life, changes: int, run: Callable[[], Any], storage: Storage) -> bool:
    """Run until `changes` changes were made, and let nothing more happen. Return whether it came to that.

    Args:
        storage: of the run directory.
    """
    life.left = changes
    try:
        run()
    except Killed:
        return True
    finally:
        life.left = None
        storage.delete("lease.json")  # the dead process is this one, which lives: nobody is to wait for it
    return False
