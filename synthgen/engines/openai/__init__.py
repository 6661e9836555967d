"""The endpoint engine: any OpenAI-compatible server, such as `vllm serve`, as generator or judge (docs/engines.md)."""

from __future__ import annotations

from synthgen.engines.openai.engine import OpenAIEngine

__all__ = ["OpenAIEngine"]
