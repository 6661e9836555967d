"""A model's thoughts, told from its answers by vLLM's own parser for its family, on one completion at a time.

The parser reads text; ratings are found by token. So the answer that it names is looked up among the tokens again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthgen.engines.thoughts import HARMONY, WRAPPED

if TYPE_CHECKING:
    from vllm.parser.abstract_parser import Parser

Spell = Callable[[Sequence[int], bool], str]
"""Tokens to text; with special tokens spelt out, or left out."""

TAIL = 48
"""Tokens at the end of a prompt in which a chat template opens or closes the thought."""


@dataclass(frozen=True, slots=True)
class Split:
    """A completion taken apart.

    Attributes:
        text: the answer, without the white space between it and the thought; empty: there is none.
        begin: the token with which the answer begins; None: it is not spelt by a tail of the tokens.
        lead: characters of white space that were dropped before `text`.
        reasoning, reasoning_tokens: see `Completion`.
    """

    text: str
    begin: int | None = 0
    lead: int = 0
    reasoning: str | None = None
    reasoning_tokens: int | None = None


class ThoughtReader:
    """Tells thoughts from answers for one model.

    Where the family marks thoughts alone, they end with the first closing mark, whatever the answer quotes later; else
    vLLM's parser says what is answer.

    Args:
        name: of vLLM's parser.
        make_parser: makes it; one for each completion, since parsers keep state.
        marks: the token ids that open and close a thought; empty: the family has no single mark.
        spell: the tokenizer's.
        kwargs: of the chat template.
        off: whether the model was told not to think.
        ends: whether a prompt leaves nothing to think, by vLLM's parser; None where it cannot say of any text.

    Attributes:
        writes_freely: whether no grammar can begin with the answer: where that has marks of its own (Harmony, Kimi K3),
            and where vLLM's parser does not know the end of a thought.
        can_bound: whether vLLM can end a thought that reaches its budget.
        mark_texts: what opens and closes a thought, where the family has single marks.
    """

    def __init__(
        self,
        name: str,
        make_parser: Callable[[], Parser],
        marks: tuple[Sequence[int], Sequence[int]],
        spell: Spell,
        kwargs: Mapping[str, Any],
        *,
        off: bool,
        ends: Callable[[Sequence[int]], bool] | None,
    ) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        self.name = name
        self._make_parser = make_parser
        self._start, self._end = (list(mark) for mark in marks)
        self._spell = spell
        self._off = off
        self._ends = ends
        self._unwraps = name == HARMONY or name in WRAPPED
        self.writes_freely = self._unwraps or (ends is None and not off)
        self.can_bound = bool(self._start and self._end)
        self.mark_texts = tuple(text for mark in marks if (text := spell(mark, True)))
        self._kwargs = dict(kwargs)
        self._request = ChatCompletionRequest(messages=[], seed=None, chat_template_kwargs=dict(kwargs))

    def has_ended(self, prompt_token_ids: Sequence[int]) -> bool:
        """Return whether the answer begins with the first token."""
        said = self._read_tail(prompt_token_ids)
        if said is not None:
            return said
        return self._off or (self._ends is not None and self._ends(prompt_token_ids[-TAIL:]))

    def engine_arguments(self, prompt_token_ids: Sequence[int]) -> dict[str, Any]:
        """Return what vLLM's `add_request` is told, so that a grammar begins with the answer."""
        return {
            "reasoning_ended": self.has_ended(prompt_token_ids),
            "reasoning_parser_kwargs": {"chat_template_kwargs": self._kwargs},
        }

    def read(self, prompt_token_ids: Sequence[int], ids: Sequence[int], whole: str | None = None) -> Split:
        """Return what of a completion is thought, and what answer.

        Args:
            ids: of the completion, without the token that ended it.
            whole: its text, special tokens spelt out, where a stop string has cut it; None: that of `ids`.
        """
        plain = self._spell(ids, False) if whole is None else whole
        if self.can_bound and not self._unwraps:
            return self._read_marked(self._read_tail(prompt_token_ids), ids, whole, plain)
        if self._off and not self._unwraps:
            return Split(plain)
        return self._read_parsed(ids, self._spell(ids, True) if whole is None else whole, plain)

    def _read_tail(self, prompt_token_ids: Sequence[int]) -> bool | None:
        """Return whether the template has closed the thought at the end of the prompt; False: opened; None: neither."""
        tail = list(prompt_token_ids[-TAIL:])
        opened, closed = _rfind(tail, self._start), _rfind(tail, self._end)
        return None if opened == closed else closed > opened

    def _read_marked(self, ended: bool | None, ids: Sequence[int], whole: str | None, plain: str) -> Split:
        """Read the completion of a family with marks. ended: see `_read_tail`."""
        start, end = _find(ids, self._start), _find(ids, self._end)
        opens = start >= 0 and not self._spell(ids[:start], True).strip()
        if ended or (ended is None and not opens and (self._off or start >= 0 or end < 0)):
            return Split(plain)
        if end < 0:
            return Split("", None, 0, self._spell_thought(ids), len(ids))
        begin = end + len(self._end)
        thought = self._spell_thought(ids[:begin])
        if whole is not None:
            text = whole.partition(self.mark_texts[1])[2]
            return Split(text.lstrip(), None, 0, thought, begin)
        text = self._spell(ids[begin:], False)
        spaces = len(text) - len(text.lstrip())
        return Split(text[spaces:], begin if text.strip() else None, spaces, thought, begin)

    def _spell_thought(self, ids: Sequence[int]) -> str:
        """Return a thought as vLLM's parser gives it, or (where that takes a part for something else) without marks."""
        spelt = self._spell(ids, True)
        thought, content, _ = self._make_parser().parse(spelt, self._request, model_output_token_ids=list(ids))
        if thought is None or (content or "").strip():
            for mark in self.mark_texts:
                spelt = spelt.replace(mark, "")
            thought = spelt
        return thought.strip()

    def _read_parsed(self, ids: Sequence[int], spelt: str, plain: str) -> Split:
        """Read the completion of a family without marks, or with marks around the answer, by vLLM's parser."""
        parsed = self._make_parser().parse(spelt, self._request, model_output_token_ids=list(ids))
        thought = None if parsed[0] is None else parsed[0].strip()
        content = parsed[1] or ""
        if not content.strip():
            return Split("", None, 0, thought or "", len(ids))
        begin = self._find(ids, spelt, content.strip())
        if begin is None:
            count = None if thought is None else round(len(ids) * (1 - len(content) / len(spelt)))
            return Split(content.lstrip(), None, 0, thought, count)
        if thought is None and begin == 0:
            return Split(plain)
        text = self._spell(ids[begin:], False)
        spaces = len(text) - len(text.lstrip())
        return Split(text[spaces:], begin, spaces, thought, None if thought is None else begin)

    def _find(self, ids: Sequence[int], spelt: str, content: str) -> int | None:
        """Return the token behind which `content` stands, up to the end; None: a stop string has cut the text."""

        def fits(begin: int) -> bool:
            return 0 <= begin <= len(ids) and self._spell(ids[begin:], True).strip() == content

        place = spelt.rfind(content)
        if place < 0:
            return None
        near = bisect_left(range(len(ids) + 1), place, key=lambda count: len(self._spell(ids[:count], True)))
        return next((begin for begin in (near, near - 1, near + 1, near - 2) if fits(begin)), None)


def _find(ids: Sequence[int], mark: Sequence[int]) -> int:
    """Return where `mark` begins for the first time in `ids`, -1 where it does not or is empty."""
    length = len(mark)
    places = range(len(ids) - length + 1 if length else 0)
    return next((p for p in places if ids[p] == mark[0] and list(ids[p : p + length]) == list(mark)), -1)


def _rfind(ids: Sequence[int], mark: Sequence[int]) -> int:
    """Return where `mark` begins for the last time in `ids`, -1 where it does not or is empty."""
    length = len(mark)
    if not length:
        return -1
    first = mark[0]
    for place in range(len(ids) - length, -1, -1):
        if ids[place] == first and (length == 1 or list(ids[place : place + length]) == list(mark)):
            return place
    return -1
