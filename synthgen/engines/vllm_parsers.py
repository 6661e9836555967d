"""From a model's entry and tokenizer to what tells its thoughts from its answers, and what vLLM is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from synthgen.config import ModelConfig
from synthgen.engines.thoughts import HARMONY, check_switch, find_reasoning_parser
from synthgen.engines.vllm_thoughts import ThoughtReader
from synthgen.errors import ConfigError, one_line

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.parser.abstract_parser import Parser


def make_thought_reader(model: ModelConfig, checkpoint: Any, tokenizer: Any) -> ThoughtReader | None:
    """Return what tells the thoughts of `model` from its answers; None: it does not think.

    Args:
        checkpoint: vLLM's `ModelConfig`.

    Raises:
        ConfigError: the parser is unknown, or not for this tokenizer; or `model.thinking` has no switch.
    """
    from vllm.parser import ParserManager

    template = model.chat_template or read_template(tokenizer)
    model_type = str(getattr(checkpoint.hf_config, "model_type", ""))
    check_switch(model, template)
    name = find_reasoning_parser(model, model_type, template)
    if name is None:
        return None
    if name == HARMONY:
        load_harmony(model)
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

    return ThoughtReader(
        name, make, (marks[0], marks[1]), spell, model.template_kwargs,
        off=model.thinking is False,
        ends=_find_end_check(reasoner, [*marks[1], *tokenizer.encode("a", add_special_tokens=False)]),
    )  # fmt: skip


def _find_end_check(reasoner: Any, ended: Sequence[int]) -> Callable[[Sequence[int]], bool] | None:
    """Return what tells whether a thought has ended in a prompt; None where the parser cannot say so of `ended`.

    The parsers of Granite and Hunyuan read text alone: theirs returns nothing, or False for everything.
    """
    return (lambda ids: bool(reasoner.is_reasoning_end(list(ids)))) if reasoner.is_reasoning_end(list(ended)) else None


def expect_thoughts(config: VllmConfig, thoughts: ThoughtReader) -> None:
    """Set vLLM's configuration so that grammars wait for the end of a thought, and that it can have a budget."""
    from vllm.config.reasoning import ReasoningConfig

    config.structured_outputs_config.reasoning_parser = thoughts.name
    if thoughts.can_bound:
        start, end = thoughts.mark_texts  # given: vLLM makes the parser without the template's arguments
        found = ReasoningConfig(reasoning_parser=thoughts.name, reasoning_start_str=start, reasoning_end_str=end)
        found.initialize_token_ids(config.model_config)
        config.reasoning_config = found


def load_harmony(model: ModelConfig) -> None:
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


def read_template(tokenizer: Any) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except (AttributeError, ValueError, KeyError):
        return ""


def _encode(tokenizer: Any, mark: str | None) -> list[int]:
    return list(tokenizer.encode(mark, add_special_tokens=False)) if mark else []
