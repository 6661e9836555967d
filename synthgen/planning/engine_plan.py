"""What the planner decides about one engine, and the error of a model that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError
from synthgen.planning.fit import Fit
from synthgen.planning.roofline import Speed


class DoesNotFitError(ConfigError):
    """The model does not fit on the cluster; `short_gib` lacks on each GPU."""

    def __init__(self, message: str, short_gib: float) -> None:
        super().__init__(message)
        self.short_gib = short_gib


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How one engine is served.

    Attributes:
        num_gpus: GPUs per replica; num_cpus: logical CPUs that Ray books per replica; nodes: nodes per replica.
        max_model_len, max_num_batched_tokens: tokens; None where the engine is not vLLM.
        enable_chunked_prefill: None leaves it to vLLM.
        expert_parallel: whole experts are dealt out to the GPUs of a replica.
        enable_prefix_caching: None: as the configuration says.
        weights_gib: of the whole model, one copy. fit: sizes per GPU; None without GPUs.
        kv_cache_gib, kv_cache_tokens: of one replica.
        kv_cache_memory_gib: what vLLM is told to take, GiB per process; None: it measures.
        speed: of one replica; None where no data sheet tells.
        dtype: of weights and activations; None: as the configuration says.
        engine_args: more of them, beneath those that the configuration has.
        reasons: why it is so, one sentence each.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    replicas: int = 1
    num_gpus: int = 0
    num_cpus: float = 0.0
    nodes: int = 1
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    enable_chunked_prefill: bool | None = None
    weights_gib: float = 0.0
    kv_cache_gib: float = 0.0
    kv_cache_tokens: int = 0
    kv_cache_memory_gib: float | None = None
    expert_parallel: bool = False
    enable_prefix_caching: bool | None = None
    fit: Fit | None = None
    speed: Speed | None = None
    dtype: str | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one replica."""
        return self.num_gpus

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.num_gpus * self.replicas

    def apply(self, model: ModelConfig) -> ModelConfig:
        """Return `model` with the choices that it left open filled in."""
        chunked = model.enable_chunked_prefill
        caching = self.enable_prefix_caching
        dealt = {"enable_expert_parallel": True} if self.expert_parallel else {}
        return replace(
            model,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            replicas=self.replicas,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_model_len=self.max_model_len,
            enable_chunked_prefill=self.enable_chunked_prefill if chunked is None else chunked,
            kv_cache_memory_gib=self.kv_cache_memory_gib,
            dtype=self.dtype or model.dtype,
            enable_prefix_caching=model.enable_prefix_caching if caching is None else caching,
            engine_args={**dealt, **self.engine_args, **model.engine_args},
        )
