"""Prompts with tools for tests: plain ones, one in the middle of its calls, and one without any."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "read_clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
}
CALL: dict[str, Any] = {
    "type": "function", "id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Łódź"}},
}  # fmt: skip
CALLING: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it warm in Łódź?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"celsius": 21}', "tool_call_id": "call_1", "name": "get_weather"},
]


def read_template(name: str) -> str:
    """Return a family's chat template, as TRL ships it; TRL itself is not imported."""
    spec = find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def write_tool_prompts(path: Path, count: int = 6) -> Path:
    """Write `count` prompts with tools as JSON lines, then one that ends with a result, and a plain one."""
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"What is the weather in city {number}?"}], "tools": [WEATHER, CLOCK]}
        for number in range(count)
    ]
    rows.append({"messages": CALLING, "tools": json.dumps([WEATHER])})
    rows.append({"messages": [{"role": "user", "content": "Say hello."}], "tools": None})
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return path
