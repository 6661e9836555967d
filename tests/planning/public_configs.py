"""Configurations that people publish, and what is published of them: `tests/data/public_configs.json`.

The numbers are those of the repositories' config.json (of ModelOpt's checkpoints with hf_quant_config.json), what no
planner reads left out. Of Gemma 3, Jamba, Granite 4 H, Falcon-H1, MiniMax-Text-01, SmolLM3, OLMo 3, Qwen3-Next, Kimi
Linear and the quantized Llama 3.3 70B and Qwen3 8B the files were not at hand: theirs are written from memory, and held
to the published counts where one stands below.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthgen.config import ModelConfig

DATA = Path(__file__).parents[1] / "data" / "public_configs.json"
CONFIGS: dict[str, dict[str, Any]] = json.loads(DATA.read_text())

# Parameters that the model cards and the safetensors indexes give, and the table of tensors that the catalog has.
PARAMETERS = {
    "ai21labs/Jamba-v0.1": ("jamba-v0.1", 51.57e9),
    "deepseek-ai/DeepSeek-V4-Flash": ("deepseek-v4-flash", 284e9),
    "google/gemma-4-26B-A4B": ("gemma-4-26b-a4b", 25.8e9),
    "ibm-granite/granite-4.0-h-small": ("granite-4.0-h-small", 32.2e9),
    "ibm-granite/granite-4.0-h-tiny": ("granite-4.0-h-tiny", 6.94e9),
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": ("llama-4-maverick", 401.6e9),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": ("llama-4-scout", 108.6e9),
    "MiniMaxAI/MiniMax-M2.5": ("minimax-m2.5", 228.7e9),
    "moonshotai/Kimi-K2.5": ("kimi-k2.5", 1026.9e9),
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": ("kimi-linear-48b-a3b", 49.1e9),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("nemotron-3-nano-30b-a3b", 31.6e9),
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4": ("nemotron-3-super-120b-a12b", 120.6e9),
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": ("nemotron-3-ultra-550b-a55b", 550e9),
    "Qwen/Qwen3.5-35B-A3B": ("qwen3.5-35b-a3b", 35.1e9),
    "Qwen/Qwen3.5-397B-A17B": ("qwen3.5-397b-a17b", 397e9),
    "Qwen/Qwen3-Next-80B-A3B-Instruct": ("qwen3-next-80b-a3b", 79.7e9),
    "tiiuae/Falcon-H1-34B-Instruct": ("falcon-h1-34b", 33.6e9),
    "XiaomiMiMo/MiMo-V2-Flash": ("mimo-v2-flash", 309e9),
    "zai-org/GLM-5.2": ("glm-5.2", 744e9),
}


def model_of(name: str, **changes: Any) -> ModelConfig:
    """Return a model with the numbers of the configuration `name`; `tensors` names a table of the catalog."""
    tensors = {"tensors": changes.pop("tensors")} if "tensors" in changes else {}
    return ModelConfig(name=name, id=name, architecture={**CONFIGS[name], **tensors}, **changes)
