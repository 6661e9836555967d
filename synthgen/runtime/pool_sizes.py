"""How many replicas each pool has at this moment: who starts, and who gives its room to another pool.

no task left for a pool                      → its replicas end
a pool has ready tasks and found no room     → replicas of other pools without a ready task end, one by one
a pool has tasks, or will have and is eager  → it has up to `replicas` replicas
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from synthgen.runtime.pools import Pool, ReplicaHandle
from synthgen.runtime.scheduler import Scheduler

logger = logging.getLogger(__name__)

STARVED_AFTER_S = 20.0
"""A replica that Ray has not placed for so long found no room; until then its process may just be starting."""


def adjust_pools(pools: Sequence[Pool], scheduler: Scheduler) -> None:
    """Start replicas that have work to come, and end those whose room is worth more elsewhere."""
    wanting = [pool for pool in pools if _wants(pool, scheduler)]
    starved = [pool for pool in wanting if _is_starved(pool, scheduler)]
    for pool in wanting:
        if scheduler.ready(pool.spec.name) or not any(other is not pool for other in starved):
            _grow(pool, scheduler)
    for pool in pools:
        if scheduler.ready(pool.spec.name):
            continue
        over = scheduler.remaining(pool.spec.name) == 0
        if over or any(other is not pool for other in starved):
            _shrink(pool, scheduler, over=over)


def lost_every_race(handle: ReplicaHandle, scheduler: Scheduler) -> bool:
    """Whether a second copy of each of its open tasks came first."""
    return all(scheduler.is_done(task.stage, task.unit) for task in handle.open.values())


def _wants(pool: Pool, scheduler: Scheduler) -> bool:
    if scheduler.remaining(pool.spec.name) == 0:
        return False
    return pool.spec.eager or scheduler.ready(pool.spec.name) > 0


def _is_starved(pool: Pool, scheduler: Scheduler) -> bool:
    """Whether the pool has ready tasks and a replica that Ray has no room for."""
    now = time.monotonic()
    waiting = [handle for handle in pool.handles if handle.placed_at is None]
    return scheduler.ready(pool.spec.name) > 0 and any(now - h.created_at > STARVED_AFTER_S for h in waiting)


def _grow(pool: Pool, scheduler: Scheduler) -> None:
    work = scheduler.ready(pool.spec.name) + sum(len(handle.open) for handle in pool.handles)
    remaining = scheduler.remaining(pool.spec.name)
    goal = min(pool.most_replicas, remaining if pool.spec.eager else max(work, 1))
    while len(pool.handles) < goal:
        pool.start_replica()


def _shrink(pool: Pool, scheduler: Scheduler, *, over: bool) -> None:
    for handle in list(pool.handles):
        if not handle.live:
            if over and handle.info is None:
                pool.kill_replica(handle)
        elif handle.held:
            continue
        elif not handle.open:
            logger.info("%s: no work left for it; its room is given back", handle.name)
            pool.end_replica(handle)
        elif lost_every_race(handle, scheduler):
            logger.info("%s: what it works on is committed; its room is given back", handle.name)
            pool.kill_replica(handle)
