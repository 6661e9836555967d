"""Planning: which GPUs each model gets, whether it fits, how long a run takes and what it costs. Arithmetic only.

Knows nothing of running: it needs no GPU, and imports no torch, vllm, ray or transformers.
"""

from __future__ import annotations

from synthgen.models.architecture import Architecture, read_architecture
from synthgen.models.checkpoint import resolve_architecture
from synthgen.planning.catalog import (
    ModelSummary,
    format_models,
    list_models,
    load_models,
    models_to_json,
    nearest_models,
)
from synthgen.planning.engine_plan import DoesNotFitError, EnginePlan
from synthgen.planning.fit import Lengths
from synthgen.planning.hardware import describe_cluster, list_gpu_kinds, resolve_cluster
from synthgen.planning.memory import kv_bytes_per_token, weights_bytes
from synthgen.planning.placement import check_servable, plan_engine
from synthgen.planning.plan import RunPlan, make_plan
from synthgen.planning.pools import ClusterPlan, PoolPlan, check_plan, plan_pools
from synthgen.planning.tell import format_plan, plan_to_json
from synthgen.planning.time import plan_replica_speed
from synthgen.planning.workload import FOREIGN_TOKENS, FlowStage, StageLedger

__all__ = [
    "FOREIGN_TOKENS",
    "Architecture",
    "ClusterPlan",
    "DoesNotFitError",
    "EnginePlan",
    "FlowStage",
    "Lengths",
    "ModelSummary",
    "PoolPlan",
    "RunPlan",
    "StageLedger",
    "check_plan",
    "check_servable",
    "describe_cluster",
    "format_models",
    "format_plan",
    "kv_bytes_per_token",
    "list_gpu_kinds",
    "list_models",
    "load_models",
    "make_plan",
    "models_to_json",
    "nearest_models",
    "plan_engine",
    "plan_pools",
    "plan_replica_speed",
    "plan_to_json",
    "read_architecture",
    "resolve_architecture",
    "resolve_cluster",
    "weights_bytes",
]

PUBLIC = ("choices", "hardware", "prices", "workload")
IMPORTS = ("config", "models")
