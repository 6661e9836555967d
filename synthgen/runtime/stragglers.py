"""Which task is late: one that has been open for much longer than tasks take, and that nobody else runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from synthgen.runtime.pools import ReplicaHandle
from synthgen.runtime.scheduler import Scheduler, Task

STRAGGLER_FACTOR = 3.0


def find_late_task(live: Sequence[ReplicaHandle], scheduler: Scheduler, usual_s: float) -> Task | None:
    """Return the task that has been open the longest, if that is STRAGGLER_FACTOR times longer than usual.

    Tasks that run twice already are left out, those of which another copy has been committed, and those whose engine
    died under them: a second engine is not risked.

    Args:
        usual_s: what a task takes, s.
    """
    copies = Counter((task.stage, task.unit, task.rows) for handle in live for task in handle.open.values())
    now = time.monotonic()
    late = [
        (handle.opened_at[ref], task)
        for handle in live
        for ref, task in handle.open.items()
        if now - handle.opened_at.get(ref, now) > STRAGGLER_FACTOR * usual_s
        and copies[task.stage, task.unit, task.rows] == 1
        and task.deaths == 0
        and not task.merge
        and not scheduler.is_done(task.stage, task.unit)
    ]
    return min(late, key=lambda item: item[0])[1] if late else None
