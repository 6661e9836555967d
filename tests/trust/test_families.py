"""Which models are of one family, whatever owner, size, format and date their ids say."""

from __future__ import annotations

from typing import Any

import pytest
from simulated import fair, simulate_units

from synthgen.trust import list_findings, measure_trust
from synthgen.trust.families import find_family


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("llama-3.1-70b-fp8", "llama-3.1-70b"),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-72B-Instruct"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "Qwen/Qwen3-8B"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("openai/gpt-oss-120b", "openai/gpt-oss-20b"),
        ("gpt-4o-mini", "gpt-4o-2024-08-06"),
        ("bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q8_0.gguf", "HuggingFaceTB/SmolLM2-1.7B"),
    ],
)
def test_one_family(one: str, other: str) -> None:
    assert find_family(one) == find_family(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Llama-2-70b-chat"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-8B"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mistral-7B-Instruct-v0.1"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3"),
        ("echo/judge", "echo/main"),
        ("builtin:tiny", "builtin:smollm2"),
    ],
)
def test_two_families(one: str, other: str) -> None:
    assert find_family(one) != find_family(other)


def test_a_judge_of_a_generators_family_is_warned_of() -> None:
    def findings(judge: str, **models: str) -> list[Any]:
        report = measure_trust(
            simulate_units(fair, units=1),
            use_expected=True,
            seed=1,
            judge_model=judge,
            generator_models=models,
        )
        return [finding for finding in list_findings(report) if finding.check == "generators"]

    [related] = findings("org/llama-3.1-70b-fp8", strong="org/llama-3.1-70b", weak="org/qwen3-8b")
    assert related.verdict == "warning"
    assert "is of one family with a generator (strong: org/llama-3.1-70b)" in related.text
    [other] = findings("org/llama-3.1-70b-fp8", strong="org/qwen3-8b", weak="org/gemma-3-4b")
    assert other.verdict == "fine"
