"""What a model calls, read by vLLM's own tool parser for its family, on one completion at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthgen.config import ModelConfig
from synthgen.engines.calls import GPT_OSS, OPENING, breaks_off, find_tool_parser
from synthgen.engines.thoughts import HARMONY, WRAPPED
from synthgen.engines.vllm_parsers import load_harmony, read_template
from synthgen.engines.vllm_thoughts import Spell, Split
from synthgen.errors import ConfigError, one_line
from synthgen.records import Tool, WrittenCall

if TYPE_CHECKING:
    from vllm.parser.abstract_parser import Parser


@dataclass(frozen=True, slots=True)
class Called:
    """An answer taken apart: what it says, what it calls, and the text of a call that cannot be read."""

    text: str
    calls: tuple[WrittenCall, ...] = ()
    bad: str | None = None


class CallReader:
    """Reads the calls of one model.

    Args:
        name: of vLLM's parser.
        make_parser: makes it for some tools; one for each completion, since parsers keep state.
        spell: the tokenizer's.
        special: its special tokens as text.
    """

    def __init__(
        self, name: str, make_parser: Callable[[list[Any]], Parser], spell: Spell, special: Sequence[str]
    ) -> None:
        self.name = name
        self._make_parser = make_parser
        self._spell = spell
        longest_first = sorted(filter(None, special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def read(self, tools: Sequence[Tool], ids: Sequence[int], split: Split, *, cut: bool = False) -> Called:
        """Return what an answer says and what it calls.

        Args:
            tools: of the prompt.
            ids: of the whole completion, without the token that ended it.
            split: its answer and its thought.
            cut: whether a stop string has cut the text, which is then not that of `ids`.
        """
        if self.name in WRAPPED:
            return self._read_wrapped(tools, ids, split)
        channels = self.name == GPT_OSS
        if channels or cut or split.begin is None:
            spelt, ids = split.text, list(ids)
        else:
            ids = list(ids[split.begin :])
            spelt = self._spell(ids, True)
        if not spelt.strip() and not channels:
            return Called(split.text)
        content, calls, failed = self._parse(tools, spelt, ids)
        if calls and not breaks_off(spelt):
            return Called(self.strip(content or "").strip(), calls)
        if calls or failed or OPENING.search(spelt):
            return Called("", bad=spelt)
        return Called(self.strip(split.text) if cut else split.text)

    def _read_wrapped(self, tools: Sequence[Tool], ids: Sequence[int], split: Split) -> Called:
        """Read what Kimi K3 calls: beside the answer, which `split` has taken out of its marks."""
        closes, begins = WRAPPED[self.name]
        spelt = self._spell(ids, True).rpartition(closes)[2]
        if begins not in spelt:
            return Called(split.text)
        content, calls, _ = self._parse(tools, spelt, list(ids))
        parts = ("call", "argument")
        if calls and all(spelt.count(f"<|open|>{part} ") == spelt.count(f"<|close|>{part}<|sep|>") for part in parts):
            return Called((content or "").strip(), calls)
        return Called("", bad=spelt)

    def strip(self, text: str) -> str:
        """Return a text without special tokens."""
        return self._special.sub("", text)

    def _parse(
        self, tools: Sequence[Tool], spelt: str, ids: list[int]
    ) -> tuple[str | None, tuple[WrittenCall, ...], bool]:
        """Return what is said beside the calls, the calls, and whether the parser failed."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        bare: list[Any] = [_bare(tool) for tool in tools]
        request = ChatCompletionRequest(messages=[], seed=None, tools=bare, tool_choice="auto")
        try:
            _, content, calls = self._make_parser(request.tools or []).parse(
                spelt, request, enable_auto_tools=True, model_output_token_ids=ids
            )
        except Exception:  # whatever a parser raises about a text that is no call of its form
            return None, (), True
        return content, tuple(_read_call(call) for call in calls or ()), False


def make_call_reader(model: ModelConfig, checkpoint: Any, tokenizer: Any) -> CallReader | None:
    """Return what reads the calls of `model`; None: it is shown no tools, or vLLM has no parser for it.

    Args:
        checkpoint: vLLM's `ModelConfig`.

    Raises:
        ConfigError: the parser is unknown, or not for this tokenizer.
    """
    from vllm.parser import ParserManager

    template = model.chat_template or read_template(tokenizer)
    name = find_tool_parser(model, str(getattr(checkpoint.hf_config, "model_type", "")), template)
    if name is None:
        return None
    channels = name == GPT_OSS
    if channels:
        load_harmony(model)
    try:
        # The one class for channels has both parsers, or neither of its halves finds the other's.
        parser = ParserManager.get_parser(
            tool_parser_name=name, reasoning_parser_name=HARMONY if channels else None, enable_auto_tools=True,
            is_harmony=channels, model_name=model.id, tokenizer=tokenizer,
        )  # fmt: skip
        assert parser is not None
    except Exception as error:  # whatever a parser's constructor raises about a tokenizer that is not its own
        if model.tool_parser == "auto":
            return None
        raise ConfigError(
            f"model.tool_parser={name} cannot read what {model.name} calls: {one_line(error)}; "
            f"take {', '.join(_list_parsers())}, auto or none"
        ) from error
    chosen = parser

    def make(tools: list[Any]) -> Parser:
        return chosen(tokenizer, tools, chat_template_kwargs=model.template_kwargs, model_config=checkpoint)

    decoder = getattr(tokenizer, "backend_tokenizer", tokenizer)

    def spell(ids: Sequence[int], special: bool) -> str:
        return str(decoder.decode(list(ids), skip_special_tokens=not special))

    return CallReader(name, make, spell, [str(token) for token in getattr(tokenizer, "all_special_tokens", ())])


def _read_call(call: Any) -> WrittenCall:
    """Return a call as the model wrote it: of the ids only those that it wrote, for vLLM draws the others at random."""
    identity = call.id if call.id and call.name in call.id else None
    return WrittenCall(call.name, call.arguments or "", identity)


def _bare(tool: Tool) -> dict[str, Any]:
    """Return what a parser reads of a tool: vLLM would refuse descriptions that are no text."""
    function = tool["function"]
    return {"type": "function", "function": {"name": function["name"], "parameters": function.get("parameters") or {}}}


def _list_parsers() -> list[str]:
    from vllm.tool_parsers import ToolParserManager

    return list(ToolParserManager.list_registered())
