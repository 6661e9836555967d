"""The plan of the tiny model, against what vLLM says once it has loaded it on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from planning_clusters import CPU, MODELS

from synthgen.planning import plan_engine, resolve_architecture, weights_bytes
from synthgen.planning.memory import buffers_bytes


def weigh_parameters(worker: Any) -> tuple[int, int]:
    """Return the bytes of the loaded weights and of the rotary tables; runs in vLLM's worker process.

    Kernels with AMX repack INT8 weights and append four bytes to each row (their sums, `convert_weight_packed`): rows
    are otherwise multiples of 32 bytes long. On other CPUs oneDNN keeps the INT8 weights to itself, and a term for
    asymmetric activations is computed beside them (`process_weights_for_onednn`).
    """
    weights = 0
    for name, parameter in worker.model_runner.model.named_parameters():
        size = parameter.numel() * parameter.element_size()
        if parameter.element_size() == 1:
            size -= parameter.shape[0] * (parameter.shape[1] % 32)
        if not name.endswith("azp_adj"):
            weights += size
    for module in worker.model_runner.model.modules():
        handler = getattr(getattr(getattr(module, "scheme", None), "kernel", None), "dnnl_handler", None)
        weights += handler.n * handler.k if handler is not None else 0
    tables = {
        buffer.data_ptr(): buffer.numel() * buffer.element_size()
        for name, buffer in worker.model_runner.model.named_buffers()
        if name.endswith("cos_sin_cache")
    }
    return weights, sum(tables.values())


@pytest.mark.vllm
async def test_plan_equals_what_vllm_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.engines.vllm import VllmEngine

    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # to send a function to the worker
    model = replace(MODELS["tiny"], enforce_eager=True)  # compiling takes time and changes no size
    plan = plan_engine(model, CPU)
    engine = VllmEngine(plan.apply(model))
    info = await engine.start()
    try:
        assert engine._engine is not None
        [(weights, tables)] = await engine._engine.collective_rpc(weigh_parameters)
    finally:
        await engine.close()
    arch = resolve_architecture(model)
    assert info.kv_cache_tokens == plan.kv_cache_tokens
    assert info.context_length == plan.max_model_len
    assert info.max_num_seqs == plan.max_num_seqs
    assert weights == weights_bytes(arch)
    assert tables == buffers_bytes(arch)
