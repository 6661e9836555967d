"""What a process of its own answers: what vLLM and transformers know of a `config.json`. `python -m` runs it.

Importing either takes seconds and much memory, so the planner asks only what it does not know, and here
(`models/inquiry.py`).
A request on stdin is `{"config": …, "count": bool, "check": bool}`; the answer is one JSON line on stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any


def main() -> int:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    answer: dict[str, Any] = {}
    out = os.dup(1)
    os.dup2(2, 1)  # what the libraries print is no part of the answer
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    if request.get("check"):
        answer["refusal"] = _ask(answer, "vllm", lambda: check_with_vllm(request["config"]))
    if request.get("count"):
        _ask(answer, "transformers", lambda: answer.update(count_with_transformers(request["config"])))
    with os.fdopen(out, "w") as stream:
        stream.write(json.dumps(answer) + "\n")
    return 0


def _ask(answer: dict[str, Any], name: str, question: Any) -> Any:
    try:
        return question()
    except Exception as error:  # whatever a library says of a file that it does not understand
        lines = str(error).strip().splitlines()
        answer[f"{name}_error"] = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
        return None


def check_with_vllm(config: Mapping[str, Any]) -> str | None:
    """Return why vLLM does not serve such a checkpoint, None where its registries have it."""
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, get_quantization_config
    from vllm.model_executor.models.registry import ModelRegistry

    names = [str(name) for name in config.get("architectures") or ()]
    supported = set(ModelRegistry.get_supported_archs())
    if names and not supported.intersection(names) and not _has_class(config, names):
        return f"has no class for architectures={names}"
    quantization = _find_quantization(config)
    if quantization is None:
        return None
    method = str(quantization.get("quant_method", "")).lower().replace("compressed_tensors", "compressed-tensors")
    for name in QUANTIZATION_METHODS:
        with contextlib.suppress(Exception):
            if get_quantization_config(name).override_quantization_method(quantization, None):
                return None
    if method in QUANTIZATION_METHODS or not method:
        return None
    return f"has no quantization method {method!r} (it has {', '.join(sorted(QUANTIZATION_METHODS))})"


def _has_class(config: Mapping[str, Any], names: list[str]) -> bool:
    """Whether the Transformers backend can take it: a class of transformers, or code that comes with it."""
    import transformers

    return bool(config.get("auto_map")) or any(hasattr(transformers, name) for name in names)


def _find_quantization(config: Mapping[str, Any]) -> dict[str, Any] | None:
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            if isinstance(part.get(key), dict):
                return dict(part[key])
    return None


def count_with_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `filled` (config.json with the family's defaults) and `tensors` (lines of a table) of a model."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

    from synthgen.models.table import Stored, format_table, make_table

    given = {key: value for key, value in config.items() if key not in _NOT_FOR_BUILDING}
    for key in ("text_config", "llm_config"):
        if isinstance(given.get(key), dict):
            given[key] = {name: value for name, value in given[key].items() if name not in _NOT_FOR_BUILDING}
    family = str(config.get("model_type"))
    if family not in CONFIG_MAPPING:
        raise ValueError(f"transformers has no model_type {family!r}")
    filled: PreTrainedConfig = CONFIG_MAPPING[family].from_dict(given)
    text = filled.get_text_config()
    answer: dict[str, Any] = {"filled": json.loads(json.dumps(text.to_dict(), default=str))}
    with torch.device("meta"):
        model = _build(filled, config, AutoModelForCausalLM)
    shapes = [Stored(name, tuple(value.shape)) for name, value in model.named_parameters()]
    answer["tensors"] = format_table(make_table(shapes, int(text.num_hidden_layers)))
    return answer


def _build(filled: Any, config: Mapping[str, Any], auto: Any) -> Any:
    import transformers

    for name in config.get("architectures") or ():
        found = getattr(transformers, str(name), None)
        if found is not None:
            return found(filled)
    try:
        return auto.from_config(filled)  # type: ignore[no-untyped-call]
    except ValueError:
        return transformers.AutoModelForImageTextToText.from_config(filled)  # type: ignore[no-untyped-call]


_NOT_FOR_BUILDING = (
    "quantization_config",
    "compression_config",
    "auto_map",
    "transformers_version",
    "torch_dtype",
    "dtype",
)


if __name__ == "__main__":
    raise SystemExit(main())
