"""The whole answer of `synthgen plan`: `make_plan` puts pools, work, time and cost together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from synthgen.config import ClusterConfig, Config, ModelConfig
from synthgen.models.architecture import UnknownShapeError
from synthgen.models.checkpoint import resolve_architecture
from synthgen.planning.disk import DiskForecast, forecast_disk
from synthgen.planning.hardware import resolve_cluster
from synthgen.planning.memory import kv_bytes_per_token
from synthgen.planning.pools import ClusterPlan, plan_pools
from synthgen.planning.prices import GpuPrice, find_gpu_price
from synthgen.planning.sensitivity import Swing, combine_swings, list_swings
from synthgen.planning.time import Estimate, estimate_cost
from synthgen.planning.workload import Assumptions, StageLedger, StageWork, list_work

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What is said of a pool's model beside its `EnginePlan`. Zeros where the engine has no checkpoint.

    `runs_code`: it is no model, but runs code on CPUs. `is_service`: someone else serves it. `has_cache`: it keeps keys
    and values.
    """

    format: str = ""
    kv_kib_per_token: float = 0.0
    context_length: int = 0
    runs_code: bool = False
    is_service: bool = False
    has_cache: bool = True


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run before it starts, or what is left of one.

    Attributes:
        work: by stage, in the order of the flow. models: by pool name.
        estimate: of what is left. hours, gpu_hours: (low, high), None where nothing tells the speed.
        usd: (low, middle, high) of the GPU-hours at `price`; None where speed or price is not known.
        swings: the assumptions, the one that moves the outcome most first.
        disk: what the run directory takes.
        efficiency: `plan.efficiency`. price: of a GPU-hour.
    """

    cluster: ClusterPlan
    models: Mapping[str, ModelPlan]
    work: Sequence[StageWork]
    estimate: Estimate
    hours: Range | None
    gpu_hours: Range | None
    usd: tuple[float, float, float] | None
    swings: Sequence[Swing]
    disk: DiskForecast
    efficiency: float
    price: GpuPrice | None
    prompts_known: bool


def make_plan(
    config: Config, ledger: Mapping[str, StageLedger] | None = None, *, cluster: ClusterConfig | None = None
) -> RunPlan:
    """Return the plan of `config`.

    Args:
        ledger: what the run directory holds and what finished units measured, by stage name.
        cluster: the machines, where the caller has asked a live Ray cluster; None: `config.cluster`.

    Raises:
        ConfigError: the run cannot work on this cluster.
    """
    ledger = ledger or {}
    machines = resolve_cluster(cluster or config.cluster)
    known = {name: StageLedger(longest_prompt=entry.longest_prompt, flow=entry.flow) for name, entry in ledger.items()}
    plan = plan_pools(config, machines, ledger=known)
    work = list_work(config, ledger)

    def estimate(assumed: Assumptions) -> Estimate:
        # Above 1 too: a range that was measured, of all shares together, not of the bandwidth alone.
        efficiency = config.plan.efficiency * assumed.efficiency
        return estimate_cost(plan, list_work(config, ledger, assumed), efficiency)

    middle = estimate(Assumptions())
    if not middle.wall_s:
        nothing = None if middle.wall_s is None else (0.0, 0.0)
        return _put_together(config, plan, ledger, work, middle, nothing, None, ())
    by_gpu = bool(middle.gpu_hours)

    def outcome(assumed: Assumptions) -> float:
        result = estimate(assumed)
        return (result.gpu_hours if by_gpu else result.wall_s) or 0.0

    kinds = {item.name: item.kind for item in work}
    swings = list_swings(outcome, ledger, kinds)
    walls = list_swings(lambda assumed: (estimate(assumed).wall_s or 0.0) / 3600, ledger, kinds)
    hours = combine_swings(middle.wall_s / 3600, walls)
    gpu_hours = combine_swings(middle.gpu_hours, swings) if middle.gpu_hours else None
    return _put_together(config, plan, ledger, work, middle, hours, gpu_hours, swings)


def _put_together(
    config: Config,
    plan: ClusterPlan,
    ledger: Mapping[str, StageLedger],
    work: Sequence[StageWork],
    estimate: Estimate,
    hours: Range | None,
    gpu_hours: Range | None,
    swings: Sequence[Swing],
) -> RunPlan:
    price = find_gpu_price(plan.cluster)
    usd = None
    if gpu_hours and price:
        usd = gpu_hours[0] * price.low, (estimate.gpu_hours or 0.0) * price.middle, gpu_hours[1] * price.high
    models = {item.name: item.model for item in work}
    return RunPlan(
        cluster=plan,
        models={pool.name: _describe_model(models[pool.stages[0]], pool.engine.dtype) for pool in plan.pools},
        work=work,
        estimate=estimate,
        hours=hours,
        gpu_hours=gpu_hours,
        usd=usd,
        swings=swings,
        disk=forecast_disk(config, work, ledger),
        efficiency=config.plan.efficiency,
        price=price,
        prompts_known=any(entry.prompts_total for entry in ledger.values()) or config.prompts.limit is not None,
    )


def _describe_model(model: ModelConfig, dtype: str | None) -> ModelPlan:
    served, model = model.served_by, replace(model, dtype=dtype or model.dtype)
    if not served.loads_checkpoint:
        return ModelPlan(runs_code=served.runs_code, is_service=served.is_service)
    try:
        arch = resolve_architecture(model)
    except UnknownShapeError:
        return ModelPlan()
    return ModelPlan(
        format=arch.quantization.label if arch.quantization.method else arch.dtype,
        kv_kib_per_token=0.0 if served.without_vllm else kv_bytes_per_token(arch, model.kv_cache_dtype) / 1024,
        context_length=arch.context_length,
        has_cache=not served.without_vllm,
    )
