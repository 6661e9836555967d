"""A smaller soak than `make soak`: random faults, nothing lost, little paid twice."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.soak_server import OUTPUT_TOKENS, PROMPT_TOKENS, SoakServer, serve
from synthgen.config import EndpointConfig, ModelConfig
from synthgen.engines.openai import OpenAIEngine
from synthgen.records import Message, Request, Sampling
from tests.still_clock import Clock


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_faults_lose_nothing_and_cost_little(seed: int) -> None:
    clock = Clock()
    async with serve(SoakServer(0.2, seed)) as server:
        endpoint = EndpointConfig(base_url=server.url, outage_s=1e9)
        model = ModelConfig(name="api", id="soaked", engine="openai", endpoint=endpoint)
        engine = OpenAIEngine(model, clock, clock.sleep)
        await engine.start()
        requests = [
            Request(f"r{i}", [Message(role="user", content=f"{i}?")], Sampling(max_tokens=256), n=4, seed=1000 * i)
            for i in range(100)
        ]
        answers = await asyncio.gather(*[engine.generate(request) for request in requests])
        await engine.close()
    texts = [completion.text.split()[1] for completions in answers for completion in completions]
    assert texts == [str(1000 * i + sample) for i in range(100) for sample in range(4)]
    assert sum(server.faults.values()) - server.faults["none"] > 50
    assert server.paid_tokens <= 1.15 * 400 * (PROMPT_TOKENS + OUTPUT_TOKENS)
