"""From a catalog entry to vLLM's resolved configuration, with every check that can be made before loading."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.config import ModelConfig
from synthgen.engines.adapters import fit_rank, list_adapters, read_adapter_config
from synthgen.engines.base import EngineInfo
from synthgen.engines.compiler import UNCOMPILED_ENVIRONMENT, find_missing_tools, has_gpus, name_packages
from synthgen.engines.vllm_args import (
    PATIENT_ENVIRONMENT,
    QUIET_ENVIRONMENT,
    check_catalog_entry,
    check_checkpoint,
    make_cpu_environment,
    make_engine_args,
)
from synthgen.errors import ConfigError, MissingExtraError, install_command, one_line
from synthgen.models.locate import locate_checkpoint

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)


def configure_vllm(model: ModelConfig, distributed_executor_backend: str | None) -> VllmConfig:
    """Return vLLM's configuration for `model`, and set the environment variables that its processes need.

    Args:
        distributed_executor_backend: see `VllmEngine`.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigError: the model cannot be served, or not here; the message says what would work.
    """
    check_catalog_entry(model)
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError("vllm", "gpu" if has_gpus() else "cpu")
    missing = find_missing_tools(gpus=has_gpus())
    uncompiled = UNCOMPILED_ENVIRONMENT if missing else {}
    _set_defaults({**QUIET_ENVIRONMENT, **PATIENT_ENVIRONMENT, **uncompiled})  # before the import, which reads it
    on_cpu = _detect_cpu(model)
    if missing:
        logger.warning("this machine lacks %s: nothing is compiled, which is slower; %s", missing, name_packages())
        model = replace(model, enforce_eager=model.enforce_eager or on_cpu)
    if on_cpu:
        _set_cpu_environment(model.tensor_parallel_size or 1)
        if os.environ["VLLM_CPU_OMP_THREADS_BIND"] != "nobind":  # the user's choice, which only `mp` carries out
            distributed_executor_backend = distributed_executor_backend or "mp"
    path = locate_checkpoint(model)
    try:
        return _resolve(model, path, on_cpu, distributed_executor_backend)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:
        raise ConfigError(f"model.id={model.id} cannot be served: {one_line(error)}") from error


def describe_engine(config: VllmConfig) -> EngineInfo:
    """Return what the engine says of itself, once it has loaded."""
    from vllm import __version__
    from vllm.platforms import current_platform

    parallel = config.parallel_config
    return EngineInfo(
        max_num_seqs=config.scheduler_config.max_num_seqs,
        context_length=config.model_config.max_model_len,
        kv_cache_tokens=config.cache_config.kv_cache_size_tokens,
        details={
            "engine": "vllm",
            "version": __version__,
            "device": current_platform.get_device_name(),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "kv_cache_dtype": config.cache_config.cache_dtype,
            "tensor_parallel_size": parallel.tensor_parallel_size,
            "pipeline_parallel_size": parallel.pipeline_parallel_size,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        },
    )


def _resolve(model: ModelConfig, path: str, on_cpu: bool, backend: str | None) -> VllmConfig:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    heads, context_length, quantization = _read_checkpoint(model, path)
    check_checkpoint(model, heads=heads, quantization=quantization, on_cpu=on_cpu, cpus=count_cpus())
    args = make_engine_args(
        model,
        path=path,
        on_cpu=on_cpu,
        context_length=context_length,
        lora_ranks=[read_lora_rank(adapter) for adapter in list_adapters(model).values()],
        distributed_executor_backend=backend,
    )
    return AsyncEngineArgs(**args).create_engine_config(UsageContext.LLM_CLASS)


def _read_checkpoint(model: ModelConfig, path: str) -> tuple[int | None, int | None, dict[str, Any] | None]:
    """Return (attention heads, context length, quantization_config) of the checkpoint; None: it does not say."""
    from vllm.transformers_utils.config import get_config

    if "://" in path:  # vLLM itself reads object stores
        return None, None, None
    config = get_config(path, trust_remote_code=model.trust_remote_code, revision=model.revision)
    text = config.get_text_config()
    quantization = getattr(config, "quantization_config", None) or getattr(text, "quantization_config", None)
    return (
        getattr(text, "num_attention_heads", None),
        getattr(text, "max_position_embeddings", None),
        quantization if quantization is None or isinstance(quantization, dict) else quantization.to_dict(),
    )


def read_lora_rank(adapter: str) -> int:
    """Return the adapter's rank, rounded up to what vLLM takes."""
    path = Path(adapter).expanduser() / "adapter_config.json"
    if not path.is_file():
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(adapter, "adapter_config.json"))
    return fit_rank(adapter, read_adapter_config(adapter, path)["r"])


def _detect_cpu(model: ModelConfig) -> bool:
    """Return whether this is vLLM's CPU build; raises ConfigError for a GPU build that finds no GPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() and not current_platform.device_type:
        raise ConfigError(
            f"model.name={model.name}: vLLM finds no GPU on this machine; run where there is one, "
            f"or install vLLM for CPUs with: {install_command('cpu')}"
        )
    return bool(current_platform.is_cpu())


def _set_cpu_environment(processes: int) -> None:
    granted = os.environ.get("OMP_NUM_THREADS", "")  # Ray's word for the CPUs that the actor asked for
    cpus = min(count_cpus(), int(granted)) if granted.isdigit() and int(granted) > 0 else count_cpus()
    if "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
        os.environ.update(make_cpu_environment(cpus=cpus, processes=processes))


def _set_defaults(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def count_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
