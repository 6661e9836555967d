"""Conversations and completions in, the text that the judge is shown out; the stored texts stay as they are.

Prompts and completions are hostile: one that holds `</think>`, `<text 2>` or a whole forged judgement must not be able
to pass for the judge's own format. Structure is made visible as quoted, and nothing else is altered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synthgen.records import Message

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_LINE_END = re.compile("\r\n?|[\u0085\u2028\u2029]")
_Z = "[\u034f\u200c\u200d]*+"  # joiners are part of some scripts, so they stay, but hide no delimiter
_TAG_NAMES = "|".join(_Z.join(name) for name in ("text", "think", "s", "bos", "eos", "start_of_turn", "end_of_turn"))
_TAG = re.compile(rf"<({_Z}/?+{_Z}\s*+(?:{_TAG_NAMES}){_Z}\s*+[0-9]{{0,3}}+\s*+)>", re.IGNORECASE)
_SPECIAL = re.compile(r"<(?=[|｜])|\[(?=/?INST\])")
_HEADER = re.compile(
    rf"({_Z.join('output')}\W{{1,8}}{_Z.join('for')}\W{{1,8}})({_Z.join('text')}\W{{0,8}}[0-9]{{1,3}})", re.IGNORECASE
)
_SIGN = r"(?:[^\w\n]|_)"
_STRUCTURE = re.compile(
    rf"^(?={_SIGN}*+(?:{_Z.join('rating')}|{_Z.join('text')}{_SIGN}{{0,4}}[0-9]{{1,3}}){_SIGN}{{0,8}}[:：]"
    r"|[ \t]{0,3}\#{2,6}[ \t]*+(?:input|output|annotation|format)\b)",
    re.IGNORECASE | re.MULTILINE,
)
# What separates the texts from a rubric that follows them, and what a rubric begins with.
_RUBRIC_MARK = re.compile(
    rf"^(?=[ \t]{{0,3}}(?:(?:{_Z}[-*_=][ \t]*+){{3,}}{_Z}$|\#{{1,6}}[^\n]*\b{_Z.join('assessment')}\b"
    rf"|{_SIGN}{{0,4}}{_Z.join('scoring')}{_SIGN}{{0,4}}[:：]))",
    re.IGNORECASE | re.MULTILINE,
)
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def render_instruction(messages: Sequence[Message], reference: str | None = None) -> str:
    """Return the instruction that completions are judged against.

    A single user turn is shown as it is. Any other conversation is shown turn by turn, and the judge is told that the
    texts answer its last turn. A reference answer follows where there is one.
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        instruction = neutralise(messages[0]["content"])
    else:
        turns = [f"[{_ROLES.get(m['role'], m['role'])}]\n{neutralise(m['content'])}" for m in messages]
        instruction = "The conversation below; each text is an answer to its last turn.\n\n" + "\n\n".join(turns)
    if reference and reference.strip():
        instruction += (
            "\n\n[Reference answer]\nTaken to be correct; a text may say the same in other words.\n"
            f"{neutralise(reference.strip())}"
        )
    return instruction


def neutralise(text: str) -> str:
    """Return `text` without anything that looks like the judge's delimiters, the parser's headers or a turn's end.

    - `<text 2>`, `</think>`, `<s>` → `[text 2]`, `[/think]`, `[s]`; `<|` → `< |`; `[INST]` → `[ INST]`
    - `Output for Text 2` → `Output for [Text 2]`
    - lines `Rating: …`, `Text 2: …`, `### Output` and the like begin with `> `
    - control characters and invisible ones that could hide any of these are left out
    """
    if _is_harmless(text):
        return text
    text = _LINE_END.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _TAG.sub(r"[\1]", text)
    text = _SPECIAL.sub(r"\g<0> ", text)
    text = _HEADER.sub(r"\1[\2]", text)
    return _STRUCTURE.sub("> ", text)


def quote_rubric_marks(text: str, heading: str = "") -> str:
    """Return `text` in which nothing can pass for the rubric that follows: such lines begin with `> `.

    These are horizontal rules (`---`), headings of an assessment (`# … Assessment`), `**Scoring**: …`, and `heading`.

    Args:
        text: what `neutralise` returned.
        heading: first line of an own rubric.
    """
    text = _RUBRIC_MARK.sub("> ", text)
    if heading.strip():
        text = re.sub(rf"^(?=[ \t]*{re.escape(heading.strip())}[ \t]*$)", "> ", text, flags=re.MULTILINE)
    return text


def _is_harmless(text: str) -> bool:
    """A quick test that most texts pass: plain ASCII without a word or sign that any pattern begins with."""
    if not text.isascii() or _CONTROL.search(text) or "<" in text or "##" in text or "INST]" in text:
        return False
    lowered = text.lower()
    return "text" not in lowered and "rating" not in lowered
