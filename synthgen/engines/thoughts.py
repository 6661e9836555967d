"""Which of vLLM's reasoning parsers tells a model's thoughts from its answers, and whether thinking has a switch.

The parsers themselves are vLLM's (`vllm.reasoning`); this module imports none of it.
"""

from __future__ import annotations

from synthgen.config import THINKING_SWITCHES, ModelConfig
from synthgen.errors import ConfigError

HARMONY = "openai_gptoss"
"""gpt-oss speaks in channels (`analysis`, `final`), which vLLM reads with a parser of its own."""

# model_type of config.json → vLLM's parser, as its documentation ("Reasoning Outputs") and recipes have it.
_FAMILIES = {
    "deepseek_v32": "deepseek_v3", "deepseek_v4": "deepseek_v4", "deepseek_v41": "deepseek_v41",
    "cohere2": "cohere_command3", "ernie4_5": "ernie45", "ernie4_5_moe": "ernie45", "gemma4": "gemma4",
    "glm4_moe": "glm45", "glm4_moe_lite": "glm47", "glm_moe_dsa": "glm47", "gpt_oss": HARMONY,
    "granite": "granite", "granitemoe": "granite", "hunyuan_v1_dense": "hunyuan_a13b", "hunyuan_v1_moe": "hunyuan_a13b",
    "hy_v3": "hy_v3", "kimi_k2": "kimi_k2", "kimi_k25": "kimi_k2", "kimi_k3": "kimi_k3", "mimo": "mimo",
    "mimo_v2": "mimo", "mimo_v2_flash": "mimo", "minimax_m2": "minimax_m2", "minimax_m3": "minimax_m3",
    "minimax_m3_vl": "minimax_m3", "mistral": "mistral", "mistral3": "mistral", "mistral4": "mistral",
    "nemotron_h": "nemotron_v3", "olmo3": "olmo3", "qwen3": "qwen3", "qwen3_5": "qwen3", "qwen3_5_moe": "qwen3",
    "qwen3_moe": "qwen3", "qwen3_next": "qwen3", "qwen3_vl": "qwen3", "qwen3_vl_moe": "qwen3", "seed_oss": "seed_oss",
    "step3_text": "step3", "step3_vl": "step3", "step3p5": "step3p5", "step3p7": "step3p5",
}  # fmt: skip

# Families whose members do not all think; what the chat template of one that does holds.
_MARKS = {
    "cohere_command3": "<|START_THINKING|>",
    "gemma4": "<|channel>",
    "hunyuan_a13b": "<think>",
    "granite": "thinking",
    "hy_v3": "<think",  # vLLM takes the rest of the mark from the vocabulary
    "minimax_m3": "mm:think>",
    "mistral": "[THINK]",
    "nemotron_v3": "<think>",
    "seed_oss": "<seed:think>",
    HARMONY: "<|channel|>",
}
_THINK_END = "</think>"

WRAPPED = {"kimi_k3": ("<|close|>think<|sep|>", "<|open|>tools<|sep|>")}
"""Parsers of families whose answers stand between marks too: what closes a thought there, and what begins calls."""


def find_reasoning_parser(model: ModelConfig, model_type: str, template: str) -> str | None:
    """Return the name of vLLM's parser for the model; None: its text is all answer.

    Args:
        model_type: as config.json of the checkpoint has it.
        template: the chat template, which shows whether this member of a family thinks at all.
    """
    if model.named_parser == "none":
        return None
    if model.named_parser != "auto":
        return model.named_parser
    if model_type in ("deepseek_v2", "deepseek_v3"):  # R1 thinks always, V3.1 and later when they are told to
        family = "deepseek_v3" if "thinking" in list_template_arguments(template) else "deepseek_r1"
    else:
        family = _FAMILIES.get(model_type, "deepseek_r1")  # what was distilled from R1, and whoever writes as it does
    return family if _MARKS.get(family, _THINK_END) in template else None


def check_switch(model: ModelConfig, template: str) -> None:
    """Raise ConfigError where `model.thinking` is set and the chat template has nothing to be told by."""
    if model.thinking is None or not template:
        return
    if not list_template_arguments(template) & {*THINKING_SWITCHES, *model.chat_template_kwargs}:
        raise ConfigError(
            f"model.thinking={str(model.thinking).lower()}: the chat template of {model.name} has no switch "
            f"({' or '.join(THINKING_SWITCHES)}); leave it out, or say it as the model's card does, with "
            "model.chat_template_kwargs (such as {reasoning_effort: low}) or a system message"
        )


def list_template_arguments(template: str) -> set[str]:
    """Return the names that a chat template takes from outside; none where it is not valid Jinja."""
    from jinja2 import TemplateError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        tree = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except TemplateError:
        return set()
    return set(meta.find_undeclared_variables(tree))
