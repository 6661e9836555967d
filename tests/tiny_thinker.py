"""A tiny model that thinks: `builtin:tiny` with `<think>` and `</think>` and a template like Qwen 3's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

END = "<|end_of_text|>"
MARKS = {"<|reserved_special_token_1|>": "<think>", "<|reserved_special_token_2|>": "</think>"}

TEMPLATE = """\
{%- for message in messages %}
    {%- set content = message['content'] %}
    {%- if message['role'] == 'assistant' %}
        {%- set content = content.split('</think>')[-1] %}
        {%- if loop.last and message['reasoning_content'] is defined %}
            {%- set content = '<think>\\n' + message['reasoning_content'] + '\\n</think>\\n\\n' + content %}
        {%- endif %}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- else %}
        {{- '<think>\\n' }}
    {%- endif %}
{%- endif %}
"""


def make_tiny_thinker(tiny: Path, directory: Path) -> Path:
    """Write the checkpoint to `directory`. Its marks are no special tokens, as Qwen's are none.

    Tiny's weights like `<|eot_id|>`. Here a text ends with another token, so that few thoughts end without an answer.
    """
    shutil.copytree(tiny, directory)
    tokenizer = directory / "tokenizer.json"
    text = tokenizer.read_text(encoding="utf-8")
    for reserved, mark in MARKS.items():
        text = text.replace(json.dumps(reserved), json.dumps(mark))
    data = json.loads(text)
    for token in data["added_tokens"]:
        if token["content"] in MARKS.values():
            token["special"] = False
    tokenizer.write_text(json.dumps(data), encoding="utf-8")
    end = next(token["id"] for token in data["added_tokens"] if token["content"] == END)
    for name, fields in {
        "tokenizer_config.json": {"chat_template": TEMPLATE, "eos_token": END},
        "config.json": {"eos_token_id": end},
        "generation_config.json": {"eos_token_id": end},
    }.items():
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text()) | fields), encoding="utf-8")
    return directory
