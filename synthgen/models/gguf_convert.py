"""`python -m synthgen.models.gguf_convert <file.gguf> <directory>`: its bfloat16 checkpoint with the tokenizer.

A program of its own: torch and the weights leave the memory with it. transformers does the work; what it leaves out is
put right here: how a file's `tokenizer.ggml.pre` cuts text before BPE, and the length that the tokenizer may have.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from synthgen.models.gguf_header import read_header

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _BYTES]}


_SINGLE_DIGITS = {
    "type": "Sequence",
    "pretokenizers": [{"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True}],
}
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "command-r": _SINGLE_DIGITS,
    "llama-bpe": _split(_LLAMA_3),
    "llama3": _split(_LLAMA_3),
    "llama-v3": _split(_LLAMA_3),
    "qwen2": _split(_LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")),
}
"""llama.cpp's names (`llama-vocab.cpp`) and what the models' own tokenizer.json holds."""
KNOWN_PLAIN = ("default", "gpt-2", "gpt2", "")
"""Cut as GPT-2 does it, which is what transformers writes."""


def convert(file: Path, target: Path) -> None:
    """Write the checkpoint of `file` to the directory `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with file.open("rb") as stream:
        header = read_header(stream, str(file))
    print("reading the tokenizer", flush=True)
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    AutoTokenizer.from_pretrained(**source, model_max_length=header.get("context_length")).save_pretrained(target)
    _mend_tokenizer(target / "tokenizer.json", str(header.fields.get("tokenizer.ggml.pre", "")))
    print("dequantizing the weights", flush=True)
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    print("writing the checkpoint", flush=True)
    model.save_pretrained(target)
    for path in target.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone; a cache may be shared


def _mend_tokenizer(path: Path, pre: str) -> None:
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    if tokenizer["model"]["type"] != "BPE" or tokenizer.get("pre_tokenizer", {}).get("type") != "ByteLevel":
        return  # not of GPT-2's kind, or a family that transformers knows by name
    if pre in PRE_TOKENIZERS:
        tokenizer["pre_tokenizer"] = PRE_TOKENIZERS[pre]
        path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    elif pre not in KNOWN_PLAIN:
        print(f"warning: tokenizer.ggml.pre={pre} is not known here; give the original model's as model.tokenizer")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
