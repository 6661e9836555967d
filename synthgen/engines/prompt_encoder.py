"""Conversations in, token ids out: the chat template is rendered and the text tokenized as the model expects it.

Text from prompts and models is hostile. A special token spelt out in a message (`<|eot_id|>`) would end the turn and
let the text speak as the system or as the judge's examples; here it is tokenized as the plain text that it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from synthgen.engines.calls import change_turn, map_texts
from synthgen.errors import ConfigError
from synthgen.records import Message, Messages, Request, RequestFailure, Tool, write_arguments

_CUT = "\ufdd0"
"""A noncharacter of Unicode, which no text holds: marks where a spelt-out special token is cut in two."""


class PromptEncoder:
    """Encodes requests for one model. Thread-safe: the tokenizer is only read.

    Args:
        tokenizer: a tokenizer of `transformers`.
        chat_template: Jinja text that replaces the tokenizer's own, or None.
        name: of the model, for messages.
        kwargs: further arguments of the template (`model.template_kwargs`).
        marks: what opens and closes a thought. They need not be special tokens, and mean as much to the model. The
            template itself reads them in assistant turns, whose thoughts most leave out.
        writes: whether the model answers; a classifier may have no chat template, and then takes plain texts alone.

    Raises:
        ConfigError: there is no chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat_template: str | None,
        name: str,
        kwargs: Mapping[str, Any] | None = None,
        marks: Sequence[str] = (),
        *,
        writes: bool = True,
    ) -> None:
        if writes and chat_template is None and getattr(tokenizer, "chat_template", None) is None:
            raise ConfigError(
                f"model.name={name} has no chat template (a base model?); "
                "set model.chat_template, or take an instruct model"
            )
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._kwargs = dict(kwargs or {})
        self._name = name
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        self._special = _match_any(special)
        self._special_and_marks = _match_any(special.union(marks))
        self._takes_parts = self._hides_text()
        self.folds_system = self._refuses_system()
        """Whether system messages go into the user turn, because the template refuses them (Gemma 2, for one)."""

    def encode(self, requests: Sequence[Request], context_length: int) -> list[Request | RequestFailure]:
        """Return the requests with `prompt_token_ids`, in order, and a failure in the place of each that cannot be.

        Args:
            context_length: tokens; a prompt must leave room for one more.
        """
        texts = [self._render(request) for request in requests]
        good = [text for text in texts if isinstance(text, str)]
        ids = iter(self._tokenize(good))
        return [
            text if isinstance(text, RequestFailure) else self._fit(request, next(ids), context_length)
            for request, text in zip(requests, texts, strict=True)
        ]

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        return _find_around(self._tokenizer)

    def _hides_text(self) -> bool:
        """Return whether the template shows a text only as a list of parts, as that of Llama Guard 3 1B does."""
        turns = [Message(role="user", content="Hello")]
        plain = self._render_turns(turns, parts=False)
        if isinstance(plain, str) and "Hello" in plain:
            return False
        parts = self._render_turns(turns, parts=True)
        return isinstance(parts, str) and "Hello" in parts

    def _refuses_system(self) -> bool:
        """Return whether the template renders a user turn alone, but not behind a system message."""
        user = Message(role="user", content="Hello")
        system = Message(role="system", content="Be brief.")
        return isinstance(self._render_turns([system, user]), RequestFailure) and isinstance(
            self._render_turns([user]), str
        )

    def _render(self, request: Request) -> str | RequestFailure:
        if request.render == "plain":
            return "\n\n".join(message["content"] for message in self._defuse(request.messages))
        turns = fold_system(request.messages) if self.folds_system else request.messages
        return self._render_turns(turns, request.tools, whole=request.render == "whole")

    def _render_turns(
        self, turns: Messages, tools: Sequence[Tool] = (), *, whole: bool = False, parts: bool | None = None
    ) -> str | RequestFailure:
        from jinja2 import TemplateError

        messages: list[Any] = [*self._defuse(turns)]
        more = {**self._kwargs, **({"tools": map_texts(list(tools), self._cut_all)} if tools else {})}
        wordings = [messages]
        if any(turn.get("tool_calls") for turn in turns):
            wordings.append(write_arguments(messages))  # DeepSeek V3's template joins texts, most take an object
        if self._takes_parts if parts is None else parts:
            wordings = [write_parts(wording) for wording in wordings]
        for attempt, wording in enumerate(wordings, start=1):
            try:
                return self._apply(wording, more, whole)
            except (TemplateError, ValueError, TypeError, KeyError, IndexError) as error:
                if attempt == 1:
                    line = " ".join(str(error).split()) or type(error).__name__
        return RequestFailure("chat_template", f"the chat template of {self._name} refuses the prompt: {line}")

    def _apply(self, messages: list[Any], more: Mapping[str, Any], whole: bool) -> str:
        continued = not whole and bool(messages) and messages[-1]["role"] == "assistant"
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._chat_template,
                tokenize=False,
                add_generation_prompt=not whole and not continued,
                continue_final_message=continued,
                **more,
            )
        )

    def _defuse(self, messages: Messages) -> list[Message]:
        """Return the messages with special tokens cut, and without what cannot be UTF-8."""
        return [change_turn(turn, self._cut_own if turn["role"] == "assistant" else self._cut_all, self._cut_all)
                for turn in messages]  # fmt: skip

    def _cut_own(self, text: str) -> str:
        return self._special.sub(_cut, _make_valid(text))

    def _cut_all(self, text: str) -> str:
        return self._special_and_marks.sub(_cut, _make_valid(text))

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text; the template has written the special tokens already."""
        pieces = [text.split(_CUT) for text in texts]
        flat = [piece for parts in pieces for piece in parts]
        if self._backend is None:
            encoded = [list(self._tokenizer.encode(piece, add_special_tokens=False)) for piece in flat]
        else:
            encoded = [item.ids for item in self._backend.encode_batch_fast(flat, add_special_tokens=False)]
        parts_ids = iter(encoded)
        joined = []
        for parts in pieces:
            ids = next(parts_ids)
            for _ in parts[1:]:
                ids = ids + next(parts_ids)
            joined.append(ids)
        return joined

    def _fit(self, request: Request, ids: list[int], context_length: int) -> Request | RequestFailure:
        # What the tokenizer puts around a plain text; a template has written that itself.
        before, behind = self._around if request.render == "plain" else ([], [])
        length = len(before) + len(ids) + len(behind)
        if length < context_length:
            return replace(request, prompt_token_ids=[*before, *ids, *behind])
        room = context_length - 1 - len(before) - len(behind)
        if request.windowed and request.render == "plain" and room > 0:
            windows = [[*before, *window, *behind] for window in cut_windows(ids, room)]
            return replace(request, prompt_token_ids=windows[0], windows=windows)
        return RequestFailure(
            "prompt_too_long",
            f"the prompt has {length} tokens and the context of {self._name} has {context_length}",
        )


def cut_windows(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    """Return windows of `size` ids that hold all of them, each an eighth over the one before; the last is full, too."""
    step = size - size // 8
    starts = [*range(0, max(1, len(ids) - size), step), max(0, len(ids) - size)]
    return [ids[start : start + size] for start in dict.fromkeys(starts)]


def _find_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts before and behind a text, such as [CLS] and [SEP] of BERT."""
    bare = list(tokenizer.encode("a", add_special_tokens=False))
    full = list(tokenizer.encode("a", add_special_tokens=True))
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def write_parts(messages: Messages) -> list[Any]:
    """Return the messages with each text as a list of one part, as templates take it that show images too."""
    return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in messages]


def fold_system(messages: Messages) -> Messages:
    """Return a conversation whose leading system message stands at the beginning of the first user turn instead."""
    if not messages or messages[0]["role"] != "system":
        return messages
    system, rest = messages[0]["content"], list(messages[1:])
    if rest and rest[0]["role"] == "user":
        return [Message(role="user", content=f"{system}\n\n{rest[0]['content']}"), *rest[1:]]
    return [Message(role="user", content=system), *rest]


def _match_any(tokens: Collection[str]) -> re.Pattern[str]:
    longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _cut(match: re.Match[str]) -> str:
    return match[0][0] + _CUT + match[0][1:]


def _make_valid(text: str) -> str:
    """Return `text` with lone surrogates replaced by U+FFFD, and without the cutting mark."""
    if text.isascii():
        return text
    if _CUT in text:
        text = text.replace(_CUT, "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
