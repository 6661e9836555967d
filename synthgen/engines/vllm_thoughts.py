"""A model's thoughts, told from its answers by vLLM's own parser for its family, on one completion at a time.

The parser reads text; ratings are found by token. So the answer that it names is looked up among the tokens again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthgen.config import ModelConfig
from synthgen.engines.thoughts import HARMONY, check_switch, find_reasoning_parser
from synthgen.errors import ConfigError, one_line

if TYPE_CHECKING:
    from vllm.config import VllmConfig
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

    Args:
        name: of vLLM's parser.
        make_parser: makes it; one for each completion, since parsers keep state.
        marks: the token ids that open and close a thought; empty: the family has no single mark.
        spell: the tokenizer's.
        kwargs: of the chat template.
        off: whether the model was told not to think.

    Attributes:
        has_channels: whether it writes in channels (Harmony), which no grammar of an answer allows for.
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
    ) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        self._make_parser = make_parser
        self._start, self._end = (list(mark) for mark in marks)
        self._spell = spell
        self._off = off
        self.name = name
        self.has_channels = name == HARMONY
        self.can_bound = bool(self._start and self._end)
        self.mark_texts = tuple(text for mark in marks if (text := spell(mark, True)))
        self._kwargs = dict(kwargs)
        self._request = ChatCompletionRequest(messages=[], seed=None, chat_template_kwargs=dict(kwargs))

    def has_ended(self, prompt_token_ids: Sequence[int]) -> bool | None:
        """Return whether the answer begins with the first token; None: only vLLM's parser can say."""
        if not self._end:
            return None
        tail = list(prompt_token_ids[-TAIL:])
        opened, closed = _rfind(tail, self._start), _rfind(tail, self._end)
        return closed > opened or (self._off and opened < 0)

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
        if self._end:
            ended = self.has_ended(prompt_token_ids)
            opened = not ended and _rfind(list(prompt_token_ids[-TAIL:]), self._start) >= 0
            spoken = _rfind(ids, self._start) >= 0
            if not spoken and (ended or (not opened and _rfind(ids, self._end) < 0)):
                return Split(plain)  # vLLM's parsers take what has no mark at all for a thought
        spelt = self._spell(ids, True) if whole is None else whole
        parsed = self._make_parser().parse(spelt, self._request, model_output_token_ids=list(ids))
        thought = None if parsed[0] is None else parsed[0].strip()
        content = parsed[1] or ""
        if not content.strip():
            return Split("", None, 0, thought or "", len(ids))
        begin = self._find(ids, spelt, content.strip())
        if begin is None:
            count = None if thought is None else self._count(ids, spelt, content)
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

        if self._end and fits(marked := _rfind(ids, self._end) + len(self._end)):
            return marked
        place = spelt.rfind(content)
        if place < 0:
            return None
        near = bisect_left(range(len(ids) + 1), place, key=lambda count: len(self._spell(ids[:count], True)))
        return next((begin for begin in (near, near - 1, near + 1, near - 2) if fits(begin)), None)

    def _count(self, ids: Sequence[int], spelt: str, content: str) -> int:
        """Return the thought's tokens where the text does not end with the tokens: up to the mark, or by its share."""
        marked = _rfind(ids, self._end) if self._end else -1
        return marked + len(self._end) if marked >= 0 else round(len(ids) * (1 - len(content) / len(spelt)))


def make_thought_reader(model: ModelConfig, checkpoint: Any, tokenizer: Any) -> ThoughtReader | None:
    """Return what tells the thoughts of `model` from its answers; None: it does not think.

    Args:
        checkpoint: vLLM's `ModelConfig`.

    Raises:
        ConfigError: the parser is unknown, or not for this tokenizer; or `model.thinking` has no switch.
    """
    from vllm.parser import ParserManager

    template = model.chat_template or _read_template(tokenizer)
    model_type = str(getattr(checkpoint.hf_config, "model_type", ""))
    check_switch(model, template)
    name = find_reasoning_parser(model, model_type, template)
    if name is None:
        return None
    if name == HARMONY:
        _load_harmony(model)
    try:
        parser = ParserManager.get_parser(
            reasoning_parser_name=name, is_harmony=name == HARMONY, model_name=model.id, tokenizer=tokenizer
        )
        assert parser is not None
        assert parser.reasoning_parser_cls is not None
        reasoner = parser.reasoning_parser_cls(
            tokenizer, chat_template_kwargs=model.template_kwargs, model_config=checkpoint
        )
    except Exception as error:  # whatever a parser's constructor raises about a tokenizer that is not its own
        if model.reasoning_parser == "auto":
            return None
        raise ConfigError(
            f"model.reasoning_parser={name} cannot read what {model.name} writes: {one_line(error)}; "
            f"take {', '.join(_list_parsers())}, auto or none"
        ) from error
    marks = [_encode(tokenizer, mark) for mark in (reasoner.reasoning_start_str, reasoner.reasoning_end_str)]

    def make() -> Parser:
        return parser(tokenizer, chat_template_kwargs=model.template_kwargs, model_config=checkpoint)

    decoder = getattr(tokenizer, "backend_tokenizer", tokenizer)

    def spell(ids: Sequence[int], special: bool) -> str:
        return str(decoder.decode(list(ids), skip_special_tokens=not special))

    off = model.thinking is False
    return ThoughtReader(name, make, (marks[0], marks[1]), spell, model.template_kwargs, off=off)


def expect_thoughts(config: VllmConfig, thoughts: ThoughtReader) -> None:
    """Set vLLM's configuration so that grammars wait for the end of a thought, and that it can have a budget."""
    from vllm.config.reasoning import ReasoningConfig

    config.structured_outputs_config.reasoning_parser = thoughts.name
    if thoughts.can_bound:
        config.reasoning_config = ReasoningConfig(reasoning_parser=thoughts.name)
        config.reasoning_config.initialize_token_ids(config.model_config)


def _load_harmony(model: ModelConfig) -> None:
    """Load the encoding that vLLM reads channels with: it comes from OpenAI, not with the checkpoint."""
    from vllm.entrypoints.openai.parser.harmony_utils import get_encoding

    try:
        get_encoding()  # type: ignore[no-untyped-call]
    except Exception as error:  # of openai_harmony, which is written in Rust
        raise ConfigError(
            f"model.name={model.name} cannot be read without OpenAI's file o200k_base.tiktoken: {one_line(error)}; "
            "put it into a directory on every node and name that in TIKTOKEN_ENCODINGS_BASE"
        ) from error


def _list_parsers() -> list[str]:
    from vllm.reasoning import ReasoningParserManager

    return list(ReasoningParserManager.list_registered())


def _read_template(tokenizer: Any) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except (AttributeError, ValueError, KeyError):
        return ""


def _encode(tokenizer: Any, mark: str | None) -> list[int]:
    return list(tokenizer.encode(mark, add_special_tokens=False)) if mark else []


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
