"""What a completion calls, held against its prompt's tools: calls as they are stored, or why they are none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from synthgen.records import Completion, Tool, ToolCall, WrittenCall

BAD_CALL = "bad_tool_call"
UNKNOWN_TOOL = "unknown_tool"
CALL_CUT_OFF = "call_cut_off"
"""Errors of rows: a call that is not of the model's form, or whose arguments are no JSON object; of a tool that the
prompt has not; of a call that a limit cut off."""


def check_calls(completion: Completion, tools: Sequence[Tool]) -> tuple[list[ToolCall], str | None]:
    """Return the calls of a completion, in order, and why they are none that can be made (None: they can).

    Where they cannot, arguments stay the text that the model wrote. Whether arguments fit a tool's schema is not asked.
    """
    if completion.bad_call is not None:
        written: ToolCall = {"type": "function", "function": {"name": "", "arguments": completion.bad_call}}
        return [written], CALL_CUT_OFF if completion.finish_reason == "length" else BAD_CALL
    names = {tool["function"]["name"] for tool in tools}
    calls, fault = [], None
    for call in completion.tool_calls:
        arguments = _parse(call.arguments)
        if call.name not in names:
            fault = fault or UNKNOWN_TOOL
        elif arguments is None:
            fault = fault or (CALL_CUT_OFF if completion.finish_reason == "length" else BAD_CALL)
        calls.append(_make_call(call, call.arguments if arguments is None else arguments))
    return calls, fault


def _make_call(call: WrittenCall, arguments: Any) -> ToolCall:
    made = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **made} if call.id else made


def _parse(text: str) -> dict[str, Any] | None:
    """Return the object that arguments spell, None where they spell none, or one that no file or tokenizer can hold."""
    try:
        value = json.loads(text) if text.strip() else {}
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
