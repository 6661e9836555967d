"""Conversations in ShareGPT's form, as LLaMA-Factory's loader takes them: turns of `from` and `value` that alternate."""

from __future__ import annotations

import pyarrow as pa

from synthgen.records import Messages

TURN_TYPE = pa.struct([pa.field("from", pa.string()), pa.field("value", pa.string())])
SHAREGPT_TYPE = pa.list_(TURN_TYPE)

NAMES = {"user": "human", "assistant": "gpt", "tool": "observation"}
"""Our role → ShareGPT's name of it."""


def align_turns(messages: Messages) -> list[dict[str, str]]:
    """Return a prompt as turns: at most one of `system`, which is first, then human, gpt, human, … up to a human one.

    LLaMA-Factory 0.9.5 leaves out what does not alternate (`SharegptDatasetConverter`), so nothing is lost this way:
    neighbours of one side become one turn, with a blank line between; a conversation that begins with the assistant
    gets an empty human turn before it; system text that comes later goes into the human turn that follows it.
    """
    system: list[str] = []
    turns: list[dict[str, str]] = []
    late: list[str] = []
    for message in messages:
        role, text = message["role"], message["content"] or ""
        if role == "system":
            (late if turns else system).append(text)
            continue
        name = NAMES.get(role, role)
        if name != "gpt":
            text = _join([*late, text])
            late = []
        if name == "gpt" and not turns:
            turns.append({"from": "human", "value": ""})
        if turns and (turns[-1]["from"] == "gpt") == (name == "gpt"):
            turns[-1] = {"from": name, "value": _join([turns[-1]["value"], text])}
        else:
            turns.append({"from": name, "value": text})
    first = [{"from": "system", "value": _join(system)}] if system else []
    return first + turns


def _join(texts: list[str]) -> str:
    return "\n\n".join(text for text in texts if text)
