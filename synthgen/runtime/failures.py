"""When failed rows are no row's fault: a cause that is the same for all ends the run before it is paid for everywhere.

A replica does not commit a unit of which more than `run.max_failed_fraction` failed; it holds it (`hold_back`). The
driver sees all units of a stage (`FailureWatch`): it has held ones committed, or ends the run and names the cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthgen.errors import RunFailedError
from synthgen.records import UnitCounts
from synthgen.runtime.scheduler import Scheduler, Task

JUDGED_FROM_ROWS = 50
CONSEQUENCES = frozenset({"no_completions"})
"""Failures that follow from those of a stage upstream, where they were counted."""
OF_THE_PROMPT = frozenset(
    {
        "bad_input", "incomplete", "judgement_cut_off", "kills_engine", "missing_input", "no_completions",
        "prompt_too_long", "thought_cut_off", "unparsable",
    }
)  # fmt: skip
"""Reasons that depend on the text: one unit of them proves nothing, so JUDGED_FROM_ROWS are waited for."""

MENDS = {
    "bad_input": "set task.inputs to the columns that the task reads",
    "chat_template": "set chat_template of that model, or take another model",
    "engine_error": "the replica's log in logs/ says more",
    "invalid_request": "set the sampling parameters to what the engine takes",
    "judgement_cut_off": "raise judge.max_tokens, or leave it unset",
    "missing_input": "set task.inputs to the columns that the task reads",
    "no_answer": "the model thinks and says nothing: set its chat_template_kwargs, or take another model",
    "no_text": "the endpoint answers without a text: look at its own log",
    "prompt_too_long": "raise max_model_len of that model, or lower max_tokens",
    "rate_limited": "the quota or the rate limit is used up: wait, or set endpoint.requests_per_minute",
    "refused": "the server refuses these requests: set the parameter that it names",
    "server_error": "the server is ill: look at its own log, and wait",
    "thought_cut_off": "raise max_tokens of that stage, or give thoughts a sampling.thinking_budget of their own",
    "timeout": "raise endpoint.timeout_s, or lower endpoint.max_concurrency",
    "unparsable": "take a model that follows the format; a judge is helped by judge.rationale=none",
}
"""What helps, by reason."""


@dataclass(frozen=True, slots=True)
class Held:
    """A unit that a replica has made and not committed.

    Attributes:
        counts: of its rows. messages: by reason, of one request.
    """

    counts: UnitCounts
    messages: Mapping[str, str]


def hold_back(counts: UnitCounts, failures: Sequence[Mapping[str, Any]], max_failed_fraction: float) -> Held | None:
    """Return what the driver is told where too much of a unit failed, None where it can be committed.

    Args:
        counts: of the unit's rows. failures: the unit's failed requests, as `failures/` holds them.
    """
    if own_failures(counts) <= max_failed_fraction * counts.rows:
        return None
    messages: dict[str, str] = {}
    for line in failures:
        messages.setdefault(str(line["reason"]), str(line["message"]))
    return Held(counts, messages)


def own_failures(counts: UnitCounts) -> int:
    """Return how many rows failed in this stage, and not for what failed before it."""
    return sum(rows for reason, rows in counts.failures.items() if reason not in CONSEQUENCES)


@dataclass
class _StageWatch:
    rows: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    held: dict[int, tuple[Any, Task]] = field(default_factory=dict)  # unit → (replica, task)

    def add(self, counts: UnitCounts) -> None:
        self.rows += counts.rows
        self.failed += own_failures(counts)
        self.reasons.update({r: n for r, n in counts.failures.items() if r not in CONSEQUENCES})


class FailureWatch:
    """Counts failed rows by stage, and decides about the units that replicas hold.

    Args:
        scheduler: knows which units are committed. max_failed_fraction: `run.max_failed_fraction`.
    """

    def __init__(self, scheduler: Scheduler, max_failed_fraction: float) -> None:
        self._scheduler = scheduler
        self._limit = max_failed_fraction
        self._stages = {name: _StageWatch() for name in scheduler.stages}
        self._settling: set[Task] = set()

    @property
    def held(self) -> Iterator[tuple[Any, Task]]:
        """The units that wait for a decision, each with the replica that holds it."""
        for watch in self._stages.values():
            yield from watch.held.values()

    def holds(self, handle: Any) -> bool:
        """Return whether a replica holds a unit: it must not end."""
        return any(holder is handle for holder, _ in self.held)

    def committed(self, task: Task, counts: UnitCounts) -> None:
        """Take note of a unit, or a part of one, that is committed."""
        if task in self._settling:  # it was counted when it was held
            self._settling.discard(task)
        elif not task.quarantine and not task.merge:
            self._stages[task.stage].add(counts)

    def hold(self, handle: Any, task: Task, held: Held) -> None:
        """Take note of a unit that `handle` holds. Of two copies the first is kept."""
        watch = self._stages[task.stage]
        if self._scheduler.is_done(task.stage, task.unit) or task.unit in watch.held:
            return
        watch.held[task.unit] = (handle, task)
        watch.add(held.counts)
        for reason, message in held.messages.items():
            watch.messages.setdefault(reason, message)

    def settle(self, is_there: Callable[[Any], bool]) -> list[tuple[Any, Task]]:
        """Return the (replica, task) to commit now; those whose replica is gone go back to the scheduler.

        Raises:
            RunFailedError: the failures of a stage have one cause, or are too many.
        """
        ready: list[tuple[Any, Task]] = []
        for name, watch in self._stages.items():
            for unit, (handle, task) in list(watch.held.items()):
                if not is_there(handle):
                    del watch.held[unit]
                    self._scheduler.give_back(task)
            if watch.held and self._decide(name, watch):
                ready += watch.held.values()
                self._settling.update(task for _, task in watch.held.values())
                watch.held.clear()
        return ready

    def _decide(self, name: str, watch: _StageWatch) -> bool:
        """Return whether what is held is to be committed; False: it is too early to tell."""
        done = self._scheduler.done(name)
        over = len(watch.held) >= self._scheduler.left(name)
        all_failed = watch.failed >= watch.rows and not done
        ((reason, _),) = watch.reasons.most_common(1)
        one_cause = len(watch.reasons) == 1 and reason not in OF_THE_PROMPT
        prompts = sum(self._scheduler.unit_rows[unit] for unit in watch.held)
        if all_failed and (over or (one_cause and prompts > 1)):
            raise self._failed(name, watch)
        if watch.rows >= JUDGED_FROM_ROWS:
            if watch.failed > self._limit * watch.rows:
                raise self._failed(name, watch)
            return True
        return over

    def _failed(self, name: str, watch: _StageWatch) -> RunFailedError:
        ((reason, rows),) = watch.reasons.most_common(1)
        told = watch.messages.get(reason, "")
        why = f" ({' '.join(told.split())[:300]})" if told else ""
        mend = MENDS.get(reason, "look into failures/ for each of them")
        where = f"each is in failures/{name}/; " if told else ""
        return RunFailedError(
            f"stage {name}: {watch.failed:,} of {watch.rows:,} rows failed, {rows:,} of them with {reason}{why}; "
            f"{mend}, then start the same command again: good rows are kept, failed ones are asked anew "
            f"({where}run.max_failed_fraction={self._limit:g} sets how many may fail)"
        )
