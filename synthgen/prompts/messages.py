"""From the value of a prompt column to a conversation, whatever the usual form: text, user turns or messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.prompts.tools import CALL_KEYS, list_calls, read_calls
from synthgen.prompts.unusable import UnusableRowError
from synthgen.records import Message, ToolCall, canonical_json, spell_calls

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""Role names in use (OpenAI, ShareGPT, OpenAssistant, Gemma) → ours."""
CALLING = "function_call"
"""Who speaks in a turn of ShareGPT's whose text is a call, as JSON."""
TOOL_ROLES = dict.fromkeys(("tool", "function", "observation", "ipython", "tool_response"), "tool") | {
    CALLING: "assistant"
}
"""Those of turns that hold what a tool gave, or call one."""
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
"""What a turn calls its speaker and its text; the first that is not null counts."""
TEXT_PARTS = (None, "text", "input_text", "output_text")
"""Types of content parts that hold text (OpenAI's chat and responses APIs)."""
MEDIA = ("image", "image_url", "video", "video_url", "audio", "audio_url", "input_audio", "file")
"""Keys of content parts that hold something else."""


def read_messages(value: Any, *, calls: bool = True, whole: bool = False) -> tuple[list[Message], str | None]:
    """Return the conversation up to its last user turn, or turn of a tool, and the answer that follows it if any.

    Args:
        value: a text (one user turn), a list of texts (user turns: the first is taken), or a list of messages in
            OpenAI's (role, content) or ShareGPT's (from, value) form; also as an object of two lists.
        whole: of a list of texts all are taken.
        calls: whether turns of tools are known, and what assistants call is read.

    Raises:
        UnusableRowError: there is no turn to answer, or it is not text.
    """
    if value is None or value in ("", [], {}):
        raise UnusableRowError("empty_prompt", "the prompt is empty")
    texts = list_texts(value)
    said = None if texts is None else texts if whole else texts[:1]
    turns = _list_turns(value) if said is None else [{"role": "user", "content": text} for text in said]
    if turns is None:
        raise UnusableRowError(
            "not_a_prompt", f"a prompt must be a text, messages or user turns, not {_describe_type(value)}"
        )
    spoken = [(_read_role(turn, calls=calls), turn) for turn in turns]
    answer = None
    while spoken and spoken[-1][0] == "assistant":
        answer = _find_answer(spoken.pop()[1], calls=calls)
    messages = [message for role, turn in spoken if (message := _read_message(role, turn, calls=calls)) is not None]
    if not messages or messages[-1]["role"] not in ("user", "tool"):
        raise UnusableRowError("no_user_turn", "the conversation does not end with a user turn")
    asked = messages if whole else messages[-1:]
    if any(turn["role"] == "user" and not turn["content"].strip() for turn in asked):
        raise UnusableRowError("empty_prompt", "the prompt is empty")
    return messages, answer


def list_texts(value: Any) -> list[str] | None:
    """Return the texts of a text or of a list of user turns (texts, or objects without a role); None: neither."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value or (isinstance(value[0], Mapping) and not _has_no_role(value[0])):
        return None
    said = (
        turn if isinstance(turn, str) else _first(turn, CONTENT_KEYS) if _has_no_role(turn) else None for turn in value
    )
    texts = [text for text in said if isinstance(text, str)]
    return texts if len(texts) == len(value) else None


def list_user_texts(value: Any) -> list[str]:
    """Return what the user says in a prompt of whatever form, by turn; what holds no text is left out."""
    texts = list_texts(value)
    if texts is None:
        texts = []
        for turn in _list_turns(value) or ():
            try:
                if _read_role(turn) == "user":
                    texts.append(_read_content("user", turn))
            except UnusableRowError:
                continue
    return [text for text in texts if text.strip()]


def _has_no_role(turn: Any) -> bool:
    return isinstance(turn, Mapping) and _first(turn, ROLE_KEYS) is None


def _list_turns(value: Any) -> list[Mapping[str, Any]] | None:
    """The turns of a list of messages, of one message, or of an object of lists (`datasets` before 4: Sequence)."""
    if isinstance(value, Mapping):
        lists = {key: other for key, other in value.items() if isinstance(other, list)}
        if any(key in lists for key in ROLE_KEYS) and any(key in lists for key in CONTENT_KEYS):
            if len({len(other) for other in lists.values()}) > 1:
                return None
            return [dict(zip(lists, items, strict=True)) for items in zip(*lists.values(), strict=True)]
        return None if _has_no_role(value) else [value]
    if not isinstance(value, list) or not all(turn is None or isinstance(turn, Mapping) for turn in value):
        return None
    return [turn for turn in value if turn is not None]


def _read_role(turn: Mapping[str, Any], *, calls: bool = True) -> str:
    name = _first(turn, ROLE_KEYS)
    roles = ROLES | TOOL_ROLES if calls else ROLES
    role = roles.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise UnusableRowError("unknown_role", f"unknown role {name!r}; there are {', '.join(roles)}")
    return role


def _read_message(role: str, turn: Mapping[str, Any], *, calls: bool) -> Message | None:
    """One turn; None for an empty system message."""
    if role == "system" and _first(turn, CONTENT_KEYS) is None:
        return None
    if role == "tool":
        return _read_result(turn)
    if role == "assistant" and calls and (called := _read_called(turn)):
        text = "" if _is_calling(turn) else _read_content(role, turn)
        return Message(role=role, content=text, tool_calls=called)
    content = _read_content(role, turn)
    return None if role == "system" and not content.strip() else Message(role=role, content=content)


def _read_result(turn: Mapping[str, Any]) -> Message:
    """What a tool gave: text, or another value as JSON; with the call's id and the tool's name where they are said."""
    content = _first(turn, CONTENT_KEYS)
    parts = isinstance(content, list) and all(isinstance(part, Mapping) and "type" in part for part in content)
    text = _read_content("tool", turn) if isinstance(content, str) or (parts and content) else canonical_json(content)
    message = Message(role="tool", content=text)
    if isinstance(identity := turn.get("tool_call_id"), str) and identity:
        message["tool_call_id"] = identity
    if isinstance(name := turn.get("name"), str) and name:
        message["name"] = name
    return message


def _is_calling(turn: Mapping[str, Any]) -> bool:
    name = _first(turn, ROLE_KEYS)
    return isinstance(name, str) and name.strip().lower() == CALLING


def _read_called(turn: Mapping[str, Any]) -> list[ToolCall]:
    return list_calls(_first(turn, CONTENT_KEYS)) if _is_calling(turn) else read_calls(turn)


def _read_content(role: str, turn: Mapping[str, Any]) -> str:
    content = _first(turn, CONTENT_KEYS)
    if content is None and role == "assistant" and any(turn.get(key) for key in CALL_KEYS):
        return ""
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list):
        return "".join(_read_part(role, part) for part in content)
    if not isinstance(content, str):
        raise UnusableRowError("not_a_prompt", f"the content of a {role} turn is {_describe_type(content)}, not text")
    return content


def _read_part(role: str, part: Any) -> str:
    """The text of one of OpenAI's content parts. Where Arrow made all parts alike, the keys of the others are null."""
    if part is None or isinstance(part, str):
        return part or ""
    if not isinstance(part, Mapping):
        raise UnusableRowError("not_a_prompt", f"a part of a {role} turn is {_describe_type(part)}, not text")
    kind = part.get("type")
    text = part.get("text")
    if kind not in TEXT_PARTS or not (text is None or isinstance(text, str)):
        raise UnusableRowError("not_text", f"a part of a {role} turn is {kind or 'no text'}, and prompts are text")
    others = [key for key, value in part.items() if value and key not in ("type", "text")]
    other = next((key for key in others if text is None or key in MEDIA), None)
    if other is not None:
        raise UnusableRowError("not_text", f"a part of a {role} turn is {other}, and prompts are text")
    return text or ""


def _find_answer(turn: Mapping[str, Any], *, calls: bool) -> str | None:
    """The text of an answer that is cut off, with what it calls; None where it has none, which harms nobody."""
    try:
        if calls and (called := _read_called(turn)):
            return spell_calls("" if _is_calling(turn) else _read_content("assistant", turn), called)
        return _read_content("assistant", turn) if _first(turn, CONTENT_KEYS) is not None else None
    except UnusableRowError:
        return None


def _first(turn: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value of the first key that has one: a table of several forms has null in the columns of the others."""
    for key in keys:
        value = turn.get(key)
        if value is not None:
            return value
    return None


def _describe_type(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
