"""Which of vLLM's tool parsers reads what a model calls, and how earlier calls go into a prompt.

The parsers themselves are vLLM's (`vllm.tool_parsers`); this module imports none of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.thoughts import list_template_arguments
from synthgen.records import Message, read_call_fields

GPT_OSS = "openai"
"""vLLM's name for the calls of gpt-oss, which stand in a channel (Harmony)."""

# model_type of config.json → vLLM's parser, as its documentation ("Tool Calling") and recipes have it.
_FAMILIES = {
    "apertus": "apertus", "cohere2": "cohere_command3", "deepseek_v32": "deepseek_v32", "deepseek_v4": "deepseek_v4",
    "deepseek_v41": "deepseek_v41", "dots1": "dots", "ernie4_5": "ernie45", "ernie4_5_moe": "ernie45",
    "gemma4": "gemma4", "glm4_moe": "glm45", "glm4_moe_lite": "glm47", "glm_moe_dsa": "glm47", "gpt_oss": GPT_OSS,
    "granite": "granite", "granitemoe": "granite", "granitemoehybrid": "granite4",
    "hunyuan_v1_dense": "hunyuan_a13b", "hunyuan_v1_moe": "hunyuan_a13b", "hy_v3": "hy_v3", "internlm2": "internlm",
    "jamba": "jamba", "kimi_k2": "kimi_k2", "kimi_k25": "kimi_k2", "kimi_k3": "kimi_k3", "lfm2": "lfm2",
    "lfm2_moe": "lfm2", "llama4": "llama4_pythonic", "longcat_flash": "longcat", "mimo": "mimo", "mimo_v2": "mimo",
    "mimo_v2_flash": "mimo", "minimax_m2": "minimax_m2", "minimax_m3": "minimax_m3", "minimax_m3_vl": "minimax_m3",
    "mistral4": "mistral", "olmo3": "olmo3", "plamo3": "plamo3", "seed_oss": "seed_oss", "step3_text": "step3",
    "step3_vl": "step3", "step3p5": "step3p5", "step3p7": "step3p5",
}  # fmt: skip
_TEMPLATELESS = frozenset({"deepseek_v32", "deepseek_v4", "deepseek_v41", GPT_OSS})
"""Parsers of families whose prompts vLLM writes without a Jinja template, or whose template names no `tools`."""

# Of the other families, what the chat template shows of the form that it teaches; the first that is there counts.
_MARKS = {
    "<start_function_call>": "functiongemma",
    "<function=": "qwen3_coder",  # Qwen3-Coder, Qwen3.5, Nemotron 3
    "[TOOL_CALLS]": "mistral",
    "<｜tool▁calls▁begin｜>": "deepseek_v3",
    "<longcat_tool_call>": "longcat",
    "<|tool_call|>": "phi4_mini_json",
    "<tool_call>": "hermes",  # Hermes, Qwen2.5, Qwen3, SmolLM3
    '{"name": function name, "parameters":': "llama3_json",  # Llama 3.1 to 3.3
    "<|python_tag|>": "llama3_json",
}

# What the members of these families in the catalog are taught; an entry that differs names its parser.
_USUAL = {
    "deepseek_v3": "deepseek_v3", "mistral": "mistral", "mistral3": "mistral", "nemotron_h": "qwen3_coder",
    "qwen2": "hermes", "qwen3": "hermes", "qwen3_moe": "hermes", "qwen3_next": "hermes", "qwen3_vl": "hermes",
    "qwen3_vl_moe": "hermes", "qwen3_5": "qwen3_coder", "qwen3_5_moe": "qwen3_coder", "smollm3": "hermes",
}  # fmt: skip

OPENING = re.compile(
    r"</?(?:\w+[:_])?tool_calls?\b|<\|?(?:tool_calls?|python_tag|tools_prefix|START_ACTION)|\[TOOL_CALLS\]|<function[=_]"
    r"|<start_function_call>|<｜(?:tool▁calls?▁begin|DSML)｜|<invoke name=|<\|tool_calls?_(?:section_)?begin\|>"
    r'|\A\s*\{\s*"(?:name|type|function)"\s*:\s*"|\A\s*\[\s*[A-Za-z_][\w.]*\(|\A\s*functools\s*\['
)
"""What begins a call in the families' forms. Where no call could be read, such a text is one that does not parse."""


_PARTS = ("function", "parameter", "invoke", "arg_key", "arg_value")


def breaks_off(written: str) -> bool:
    """Return whether a part of a call in tags is open at the end of a text: vLLM's parsers leave such parts out, and
    the rest would pass for a call that the model has not made."""
    return any(
        len(re.findall(rf"<{part}[=\s>]", written)) > len(re.findall(rf"</{part}\s*>", written)) for part in _PARTS
    )


def find_tool_parser(model: ModelConfig, model_type: str, template: str) -> str | None:
    """Return the name of vLLM's parser of the calls of a model; None: it is shown no tools, or its form is not known.

    Args:
        model_type: as config.json of the checkpoint has it.
        template: the chat template, which shows the form that it teaches.
    """
    if model.tool_parser != "auto":
        return None if model.tool_parser == "none" else model.tool_parser
    family = _FAMILIES.get(model_type.removesuffix("_text"))
    if family in _TEMPLATELESS:
        return family
    if "tools" not in list_template_arguments(template):
        return None
    if family is None:
        family = next((parser for mark, parser in _MARKS.items() if mark in template), None)
    if family == "deepseek_v3" and "thinking" in list_template_arguments(template):
        return "deepseek_v31"
    return family


def find_known_tool_parser(model: ModelConfig) -> str | None:
    """Return the parser of a catalog entry by what the catalog says of it, without a template; None: not known."""
    if model.tool_parser != "auto":
        return None if model.tool_parser == "none" else model.tool_parser
    model_type = str(model.architecture.get("model_type", "")).removesuffix("_text")
    if model_type == "llama":  # which half of the world is
        return "llama3_json" if re.search(r"llama-3\.[1-3]", f"{model.name} {model.id}".lower()) else None
    return _FAMILIES.get(model_type) or _USUAL.get(model_type)


def takes_tools(template: str) -> bool:
    """Return whether a chat template shows tools to the model."""
    return "tools" in list_template_arguments(template)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it changed, the names of its keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): map_texts(other, change) for key, other in value.items()}
    return [map_texts(other, change) for other in value] if isinstance(value, list | tuple) else value


def change_turn(turn: Message, content: Callable[[str], str], other: Callable[[str], str]) -> Message:
    """Return a turn with its text changed by `content`, and all texts of what it calls by `other`."""
    changed = Message(role=turn["role"], content=content(turn["content"]))
    changed.update(map_texts(read_call_fields(turn), other) if len(turn) > 2 else {})  # type: ignore[typeddict-item]
    return changed
