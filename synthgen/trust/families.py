"""A model's id in, the family that it is of out: what was trained alike writes, and likes, alike."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?:a?\d+(?:\.\d+)?[bmt]|\d+x\d+b|e\d+b)", re.IGNORECASE)
_FORMAT = re.compile(
    r"(?:fp8|fp16|bf16|fp4|nvfp4|mxfp4|awq|gptq|gguf|bnb|exl2|int[48]|w\d+a\d+|[48]bit|q\d\w*|iq\d\w*|dynamic|quantized)",
    re.IGNORECASE,
)
_KIND = re.compile(
    r"(?:instruct|chat|it|base|hf|pt|mini|nano|small|medium|large|tiny|turbo|latest|preview|thinking|reasoning"
    r"|\d{2,4}|\d{6,8}|v\d{3,4})",
    re.IGNORECASE,
)


def find_family(model: str) -> str:
    """Return the family of a model's id: its name and version without the owner, sizes, formats, kinds and dates.

    `meta-llama/Llama-3.1-70B-Instruct-FP8` and `llama-3.1-405b` are both `llama-3.1`.
    """
    name = re.sub(r"\.gguf$", "", model.rstrip("/").rpartition("/")[2].rpartition(":")[2], flags=re.IGNORECASE)
    words = [word for word in re.split(r"[-_]", name.lower()) if word]
    for place, word in enumerate(words):
        if place and (_SIZE.fullmatch(word) or _FORMAT.fullmatch(word)):
            words = words[:place]
            break
    kept = [word for place, word in enumerate(words) if not place or not _KIND.fullmatch(word)]
    family = "-".join(kept) or name.lower()
    return family.removeprefix("meta-")
