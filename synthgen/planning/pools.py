"""Which engines a run needs, and whether they share the cluster, run together or take turns: computed once, here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from synthgen.config import ClusterConfig, Config, ModelConfig
from synthgen.config.public_names import call_model
from synthgen.planning.engine_plan import EnginePlan
from synthgen.planning.fit import Lengths
from synthgen.planning.hardware import describe_cluster, resolve_cluster
from synthgen.planning.placement import plan_engine
from synthgen.planning.workload import StageLedger, StageWork, list_models_used, list_work

Mode = Literal["shared", "together", "in_turn"]
LOAD_S = 60.0
LOAD_GIB_PER_S = 1.0
"""Starting an engine: compiling and capturing graphs, s; reading weights, GiB/s. 70B FP8 took 176 s in vLLM's log."""
SLOWER = 1.15
"""Pools take turns if running together would take so many times as long."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The replicas of one engine, and the stages that they serve. Plain values, for reports too."""

    name: str
    model_name: str
    model_id: str
    stages: tuple[str, ...]
    engine: EnginePlan

    @property
    def num_gpus(self) -> int:
        """GPUs per replica."""
        return self.engine.num_gpus

    @property
    def num_cpus(self) -> float:
        """Logical CPUs that Ray books per replica."""
        return self.engine.num_cpus

    @property
    def nodes(self) -> int:
        """Nodes per replica."""
        return self.engine.nodes

    @property
    def load_s(self) -> float:
        """Expected time from starting a replica to its first token, s."""
        return LOAD_S + self.engine.weights_gib / LOAD_GIB_PER_S if self.engine.weights_gib else 0.0


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """All pools of a run.

    Attributes:
        mode: `shared`: one pool serves all stages; `together`: all pools run at once; `in_turn`: a pool with no work
            left gives its GPUs to the next. reason: why, in one sentence.
    """

    cluster: ClusterConfig
    pools: tuple[PoolPlan, ...]
    mode: Mode
    reason: str

    def pool_of(self, stage: str) -> PoolPlan:
        """Return the pool that serves `stage`."""
        return next(pool for pool in self.pools if stage in pool.stages)


def plan_pools(
    config: Config,
    cluster: ClusterConfig,
    *,
    ledger: Mapping[str, StageLedger] | None = None,
    stages: Mapping[str, ModelConfig] | None = None,
) -> ClusterPlan:
    """Return the pools of `config` on `cluster`; stages with equal models share one.

    Args:
        cluster: with `auto` still set, this machine is asked.
        ledger: what is known of the stages' lengths.
        stages: models by stage name, for flows other than the preference flow.

    Raises:
        ConfigError: an engine cannot be served here.
    """
    cluster = resolve_cluster(cluster)
    work = {item.name: item for item in list_work(config, ledger)}
    models = list_models_used(config, ledger)
    if stages is not None:
        models = {name: models.get(name, (f"{name}.model", model)) for name, model in stages.items()}
    groups: list[tuple[str, ModelConfig, list[str]]] = []
    for name, (key, model) in models.items():
        group = next((group for group in groups if group[1] == model), None)
        if group is None:
            groups.append((key, model, [name]))
        else:
            group[2].append(name)
    pools: list[PoolPlan] = []
    for key, model, names in groups:
        lengths = _join_lengths([work[name] for name in names if name in work])
        if lengths is not None and any(name not in work for name in names):
            lengths = replace(lengths, bound=None)  # what a stage of one's own asks is not known
        engine = plan_engine(model, cluster, key=key, lengths=lengths, efficiency=config.plan.efficiency)
        pools.append(PoolPlan(_name_pool(model, pools), model.name, model.id, tuple(names), engine))
    limits = [model.replicas for _, model, _ in groups]
    return _arrange(cluster, pools, limits, list(work.values()))


def check_plan(config: Config, cluster: ClusterConfig) -> None:
    """Raise ConfigError if `config` cannot work on `cluster`; `run` asks before Ray starts."""
    plan_pools(config, cluster)


def pool_seconds(pool: PoolPlan, work: Sequence[StageWork], replicas: int | None = None) -> float | None:
    """Return how long the pool's stages take on its replicas by its average speed, s; None where no speed is known."""
    speed = pool.engine.speed
    if speed is None:
        return None
    mine = [item for item in work if item.name in pool.stages]
    seconds = sum(speed.seconds(item.total_input_tokens, item.total_output_tokens) for item in mine)
    return seconds / (replicas or pool.engine.replicas)


def _arrange(
    cluster: ClusterConfig, pools: list[PoolPlan], limits: Sequence[int | None], work: Sequence[StageWork]
) -> ClusterPlan:
    """Choose the mode, and the replicas of each pool if they run together."""
    if len(pools) == 1:
        return ClusterPlan(cluster, tuple(pools), "shared", "one engine serves all stages")
    heavy = [pool for pool in pools if pool.num_gpus or (pool.num_cpus and not cluster.gpus_per_node)]
    if len(heavy) <= 1:
        return ClusterPlan(cluster, tuple(pools), "together", "at most one of the engines needs the machine for itself")
    if not cluster.gpus_per_node:
        return ClusterPlan(cluster, tuple(pools), "in_turn", "each engine takes all CPUs of this machine")
    counts = _share(cluster, pools, limits, work)
    if counts is None:
        needs = " + ".join(str(pool.num_gpus) for pool in heavy)
        reason = f"one replica of each takes {needs} GPUs at once, more than {describe_cluster(cluster)}"
        return ClusterPlan(cluster, tuple(pools), "in_turn", reason)
    shared = [
        replace(pool, engine=replace(pool.engine, replicas=count)) for pool, count in zip(pools, counts, strict=True)
    ]
    together = [pool_seconds(pool, work) for pool in shared]
    alone = [pool_seconds(pool, work) for pool in pools]
    times = [time for time in together if time is not None]
    turns = sum(time for time in alone if time is not None) + sum(pool.load_s for pool in pools[1:])
    if times and max(times) > SLOWER * turns:
        reason = (
            f"taking turns is faster: about {turns / 3600:.1f} h on all GPUs, {max(times) / 3600:.1f} h side by side"
        )
        return ClusterPlan(cluster, tuple(pools), "in_turn", reason)
    return ClusterPlan(
        cluster, tuple(shared), "together", "all engines fit at once, so that judging overlaps generation"
    )


def _share(
    cluster: ClusterConfig, pools: Sequence[PoolPlan], limits: Sequence[int | None], work: Sequence[StageWork]
) -> list[int] | None:
    """Return replicas per pool that fit at once, more for the one that takes longest; None: they do not fit."""
    counts = [1 if pool.num_gpus else pool.engine.replicas for pool in pools]
    if any(limit for limit in limits):
        counts = [limit or count for limit, count in zip(limits, counts, strict=True)]
    if not _packs(cluster, pools, counts):
        return None
    while True:
        times = [
            (pool_seconds(pool, work, counts[index]) or 0.0, -index)
            for index, pool in enumerate(pools)
            if pool.num_gpus and not limits[index]
        ]
        for _, index in sorted(times, reverse=True):
            more = [count + (place == -index) for place, count in enumerate(counts)]
            if _packs(cluster, pools, more):
                counts = more
                break
        else:
            return counts


def _packs(cluster: ClusterConfig, pools: Sequence[PoolPlan], counts: Sequence[int]) -> bool:
    """Whether so many replicas of each pool fit on the nodes at once, those that span nodes placed first."""
    free = [cluster.gpus_per_node] * cluster.nodes
    order = sorted(zip(pools, counts, strict=True), key=lambda item: (item[0].nodes, item[0].num_gpus), reverse=True)
    for pool, count in order:
        for _ in range(count if pool.num_gpus else 0):
            share = -(-pool.num_gpus // pool.nodes)
            places = [index for index, gpus in enumerate(free) if gpus >= share][: pool.nodes]
            if len(places) < pool.nodes:
                return False
            for index in places:
                free[index] -= share
    return True


def _join_lengths(work: Sequence[StageWork]) -> Lengths | None:
    """Return the mean lengths of the sequences of all stages of a pool, and the longest of them."""
    sequences = [(item.requests * item.completions, item.lengths) for item in work]
    total = sum(count for count, _ in sequences)
    if not total:
        return work[0].lengths if work else None
    return Lengths(
        prompt=sum(count * lengths.prompt for count, lengths in sequences) / total,
        output=sum(count * lengths.output for count, lengths in sequences) / total,
        longest=max(lengths.longest for _, lengths in sequences),
        prefill=sum(item.total_input_tokens for item in work) / total,
        bound=_join_bounds(work),
    )


def _join_bounds(work: Sequence[StageWork]) -> int | None:
    """Return what no sequence of these stages exceeds; None: of one of them it is not known."""
    bounds = [item.bound for item in work]
    return None if None in bounds else max(bound for bound in bounds if bound is not None)


def _name_pool(model: ModelConfig, pools: Sequence[PoolPlan]) -> str:
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", call_model(model).rpartition("/")[2]).strip("-") or "pool"
    taken = {pool.name for pool in pools}
    number = 2
    name = base
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name
