"""Time and GPU-hours: the work of each stage and the pools that do it in, an `Estimate` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthgen.config import GpuConfig, ModelConfig
from synthgen.models.checkpoint import resolve_architecture
from synthgen.planning.memory import GIB, sequence_kv_bytes, split_layers
from synthgen.planning.pools import ClusterPlan, PoolPlan
from synthgen.planning.roofline import Speed, estimate_speed
from synthgen.planning.workload import StageWork


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the rest of a run takes. None where neither a data sheet nor finished units tell.

    Attributes:
        stage_s: busy time by stage on all replicas of its pool, s; None for a model behind someone else's API.
        wall_s: from start to end with the loading of models, s, an API's time left out.
        gpu_hours: of all GPUs that replicas hold.
    """

    stage_s: Mapping[str, float | None]
    wall_s: float | None
    gpu_hours: float | None


def estimate_cost(plan: ClusterPlan, work: Sequence[StageWork], efficiency: float) -> Estimate:
    """Return the time and GPU-hours of `work` on `plan`'s pools, at `efficiency` of the memory bandwidth."""
    pools = {item.name: plan.pool_of(item.name) for item in work}
    stage_s = {item.name: _estimate_stage(plan, pools[item.name], item, efficiency) for item in work}
    served = {item.name: item.model.served_by for item in work}
    local = [name for name, by in served.items() if not by.is_service and not by.without_vllm]
    if any(stage_s[name] is None for name in local) or not local:
        return Estimate(stage_s, None, None)
    busy = {pool.name: sum(stage_s.get(name) or 0.0 for name in pool.stages) for pool in plan.pools}
    held = {pool.name: busy[pool.name] + pool.load_s if busy[pool.name] else 0.0 for pool in plan.pools}
    wall = sum(held.values()) if plan.mode == "in_turn" else max(held.values())
    last = plan.pools[-1].name
    if plan.mode != "in_turn" and busy[last]:
        held[last] = wall  # it is there from the start and ends with the run
    gpu_hours = sum(pool.engine.gpus * held[pool.name] for pool in plan.pools) / 3600
    return Estimate(stage_s, wall, gpu_hours)


def _estimate_stage(plan: ClusterPlan, pool: PoolPlan, work: StageWork, efficiency: float) -> float | None:
    """Return the busy time of a stage on all replicas of its pool, s."""
    if not work.requests or work.model.served_by.makes_text_up:
        return 0.0
    if work.output_tokens_per_s:
        replicas = pool.engine.replicas if work.per_replica else 1
        return work.total_output_tokens / (work.output_tokens_per_s * replicas)
    speed = plan_replica_speed(
        pool, work.model, plan.cluster.gpu, work.input_tokens, work.output_tokens, efficiency=efficiency
    )
    if speed is None:
        return None
    gpus, ratio = work.speed_ratio or (0, 1.0)
    seconds = speed.seconds(work.total_input_tokens, work.total_output_tokens) / pool.engine.replicas
    return seconds / ratio if gpus == pool.num_gpus else seconds


def plan_replica_speed(
    pool: PoolPlan, model: ModelConfig, gpu: GpuConfig, input_tokens: float, output_tokens: float, *, efficiency: float
) -> Speed | None:
    """Return the speed of one replica with prompts and completions of so many tokens; None: no data sheet tells."""
    fit = pool.engine.fit
    if fit is None:
        return None
    arch = resolve_architecture(model)
    tp, pp = fit.tensor_parallel_size, fit.pipeline_parallel_size
    layers = max(split_layers(arch.num_layers, pp))
    cache = model.kv_cache_dtype
    sequence = sequence_kv_bytes(arch, input_tokens + output_tokens, cache, tensor_parallel_size=tp, layers=layers)
    return estimate_speed(
        arch,
        gpu,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        sequences=max(1, min(pool.engine.max_num_seqs, int(fit.kv_gib * GIB // sequence))),
        context_tokens=input_tokens + output_tokens / 2,
        kv_cache_dtype=cache,
        efficiency=efficiency,
    )
