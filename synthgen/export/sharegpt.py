"""Conversations whose turns alternate, and ShareGPT's form of them: what LLaMA-Factory's loader takes."""

from __future__ import annotations

import pyarrow as pa

from synthgen.records import Message, Messages

TURN_TYPE = pa.struct([pa.field("from", pa.string()), pa.field("value", pa.string())])
SHAREGPT_TYPE = pa.list_(TURN_TYPE)

NAMES = {"user": "human", "assistant": "gpt", "tool": "observation"}
"""Our role → ShareGPT's name of it."""


def align_turns(messages: Messages) -> list[Message]:
    """Return a prompt as at most one system turn, which is first, then user, assistant, user, … up to a user's turn.

    LLaMA-Factory 0.9.5 leaves a pair out whose turns do not alternate, and stops at such a KTO row
    (`SharegptDatasetConverter`, `FeedbackDatasetProcessor`). Nothing is lost this way: neighbours of one side become
    one turn, with a blank line between; a conversation that begins with the assistant gets an empty user turn before
    it; system text that comes later goes into the user turn that follows it. A tool's turn stands on the user's side.
    """
    system: list[str] = []
    late: list[str] = []
    turns: list[Message] = []
    for message in messages:
        role, text = message["role"], message["content"] or ""
        if role == "system":
            (late if turns else system).append(text)
            continue
        answers = role == "assistant"
        if not answers:
            text = _join([*late, text])
            late = []
        elif not turns:
            turns.append(Message(role="user", content=""))
        if turns and (turns[-1]["role"] == "assistant") == answers:
            turns[-1] = Message(role=role, content=_join([turns[-1]["content"], text]))
        else:
            turns.append(Message(role=role, content=text))
    return [Message(role="system", content=_join(system)), *turns] if system else turns


def name_turns(messages: Messages) -> list[dict[str, str]]:
    """Return messages in ShareGPT's form: turns of `from` and `value`."""
    return [{"from": NAMES.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in messages]


def _join(texts: list[str]) -> str:
    return "\n\n".join(text for text in texts if text)
