"""Tools and calls as text that a judge reads: turns and answers in, the same without calls and with their text out.

A call is one line, `[Tool call] {"name": …, "arguments": {…}}`. A text that has such a line itself only says that it
calls: there `> ` is put before the line, so that what stands as a call is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from synthgen.records import Message, Tool, spell_calls, spell_json

_HIDDEN = "[\u00ad\u034f\u200b-\u200f\u2060-\u2064\ufeff]*+"  # may stand between letters unseen
_MARK = re.compile(
    r"(?:^|(?<=[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]))"
    rf"(?=(?:[^\w\n]|_)*{_HIDDEN.join('tool')}[\W_]{{0,8}}?{_HIDDEN.join('call')})",
    re.MULTILINE | re.IGNORECASE,
)
"""The beginning of a line that would look like a call's."""


def show_answer(text: str, calls: str | None) -> str:
    """Return an answer with what it calls below it. calls: JSON list (`ToolCall`), None: it calls nothing."""
    return spell_calls(quote_calls(text), json.loads(calls) if calls else [])


def quote_calls(text: str) -> str:
    """Return a text in which no line can pass for a call."""
    return _MARK.sub("> ", text)


def show_conversation(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """Return a conversation as turns that have a text alone; the tools are a turn of the system's before them."""
    turns = [
        Message(role=turn["role"], content=_name_result(turn, spell_calls(quote_calls(turn["content"]), _calls(turn))))
        for turn in messages
    ]
    if not tools:
        return turns
    lines = [spell_json(tool["function"]) for tool in tools]
    return [Message(role="system", content="\n".join([_TOOLS, *lines])), *turns]


_TOOLS = "These tools may be called; a line `[Tool call] …` in an answer is such a call:"


def _calls(turn: Message) -> Sequence[dict[str, object]]:
    return turn.get("tool_calls", ())  # type: ignore[return-value]


def _name_result(turn: Message, text: str) -> str:
    name = turn.get("name") if turn["role"] == "tool" else None
    return f"{spell_json(name)}: {text}" if name else text
