"""What a replica says of itself: where it lives, what its engine is, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from synthgen.engines.base import EngineInfo
from synthgen.errors import RunFailedError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica lives: the node, and the ids of the GPUs on it that Ray gave it."""

    node_id: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """What a replica's engine says of itself, and its process."""

    engine: EngineInfo
    host: str
    pid: int
    start_s: float


@dataclass(slots=True)
class Progress:
    """A replica's running totals since it started.

    Attributes:
        waiting_s: time with nothing to do after the first task, s.
        heartbeat: of the engine (`Engine.heartbeat`).
        made: output tokens by stage, those of requests in flight included.
        requests: by stage, how many requests of its open units have ended, and how many there are.
        running, waiting: sequences in the engine, as it says.
        kv_cache_share: see `EngineLoad`.
        phase, phase_s: what the engine is at while it loads, and for how long.
        usd: what an endpoint's answers cost, dollars, where its prices are given.
        notice: what the engine waits for, in a few words; empty: nothing.
        lessons: what the engine has learnt of its server.
    """

    completions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    outstanding: int = 0
    busy_s: float = 0.0
    waiting_s: float = 0.0
    heartbeat: float = 0.0
    made: dict[str, int] = field(default_factory=dict)
    requests: dict[str, tuple[int, int]] = field(default_factory=dict)
    running: int = 0
    waiting: int = 0
    kv_cache_share: float | None = None
    phase: str = ""
    phase_s: float = 0.0
    usd: float = 0.0
    notice: str = ""
    lessons: tuple[str, ...] = ()

    @property
    def signs_of_life(self) -> tuple[int, float]:
        """What changes while the replica gets on with its work."""
        return self.completions, self.heartbeat


def find_place() -> Place:
    """Return where this process was placed by Ray."""
    import ray

    try:
        context = ray.get_runtime_context()
        return Place(context.get_node_id(), tuple(context.get_accelerator_ids().get("GPU", ())))
    except Exception as error:
        raise RunFailedError(f"a replica runs outside Ray: {error}") from error
