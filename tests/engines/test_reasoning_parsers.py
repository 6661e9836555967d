"""Thoughts and answers as the families write them, told apart by vLLM's own parsers. No engine is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.config import ModelConfig
from synthgen.engines.calls import find_known_tool_parser
from synthgen.engines.thoughts import check_switch, find_reasoning_parser, list_template_arguments
from synthgen.engines.vllm_parsers import make_thought_reader
from synthgen.engines.vllm_thoughts import Split, ThoughtReader
from synthgen.errors import ConfigError
from synthgen.planning import load_models

QWEN = "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
R1 = "{% if add_generation_prompt %}<think>\n{% endif %}"
SWITCHED = "{% if thinking %}<think>{% else %}</think>{% endif %}"

FAMILIES = {
    ("qwen3", QWEN): "qwen3",
    ("qwen3", "{{ messages }}"): None,  # Qwen3-…-Instruct-2507
    ("qwen3_moe", QWEN): "qwen3",
    ("qwen2", R1 + "</think>"): "deepseek_r1",  # distilled from R1
    ("qwen2", "{{ messages }}"): None,
    ("llama", R1 + "</think>"): "deepseek_r1",
    ("llama", "{{ messages }}"): None,
    ("deepseek_v3", R1 + "</think>"): "deepseek_r1",
    ("deepseek_v3", SWITCHED): "deepseek_v3",
    ("deepseek_v3", "{{ messages }}"): None,
    ("gpt_oss", "<|start|>assistant<|channel|>final<|message|>"): "openai_gptoss",
    ("glm4_moe", QWEN): "glm45",
    ("mistral3", "[THINK][/THINK]"): "mistral",
    ("mistral3", "{{ messages }}"): None,
    ("seed_oss", "<seed:think>"): "seed_oss",
    ("smollm3", QWEN): "deepseek_r1",
    ("olmo3", "<think></think>"): "olmo3",
    ("hy_v3", "<think:opensource>"): "hy_v3",
    ("minimax_m3_vl", "<mm:think></mm:think>"): "minimax_m3",
    ("mistral4", "[THINK][/THINK]"): "mistral",
    ("step3p7", "<think></think>"): "step3p5",
}


@pytest.mark.parametrize(("found", "parser"), FAMILIES.items(), ids=lambda value: str(value)[:40])
def test_a_family_has_its_parser_where_the_template_shows_that_it_thinks(
    found: tuple[str, str], parser: str | None
) -> None:
    assert find_reasoning_parser(ModelConfig(), *found) == parser


def test_what_is_configured_wins_over_the_family() -> None:
    assert find_reasoning_parser(ModelConfig(reasoning_parser="none"), "qwen3", QWEN) is None
    assert find_reasoning_parser(ModelConfig(reasoning_parser="glm45"), "llama", "") == "glm45"


def test_a_switch_that_the_template_has_not_is_refused() -> None:
    assert list_template_arguments(QWEN) == {"enable_thinking"}
    check_switch(ModelConfig(thinking=False), QWEN)
    check_switch(ModelConfig(thinking=True), SWITCHED)
    check_switch(ModelConfig(), "{{ messages }}")
    with pytest.raises(ConfigError, match=r"^model.thinking=false: the chat template of hub has no switch"):
        check_switch(ModelConfig(name="hub", thinking=False), "{{ messages }}")


def test_both_names_of_the_switch_are_given_and_what_is_set_by_hand_wins() -> None:
    assert ModelConfig().template_kwargs == {}
    assert ModelConfig(thinking=False).template_kwargs == {"enable_thinking": False, "thinking": False}
    model = ModelConfig(thinking=True, chat_template_kwargs={"thinking": "high"})
    assert model.template_kwargs == {"enable_thinking": True, "thinking": "high"}


MARKS = ["<think>", "</think>", "<seed:think>", "</seed:think>", "<mm:think>", "</mm:think>", "<|channel>",
         "<channel|>", "[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>", "<|im_start|>",
         "<|im_end|>"]  # fmt: skip
SPECIAL = ["<|open|>", "<|close|>", "<|sep|>"]  # of Kimi K3


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    from transformers import AddedToken, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    tokenizer.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL], special_tokens=True)
    return tokenizer


@pytest.fixture(scope="module")
def make_reader(tokenizer: Any) -> Callable[..., ThoughtReader]:
    pytest.importorskip("vllm")

    @cache
    def make(parser: str, **fields: Any) -> ThoughtReader:
        checkpoint = SimpleNamespace(hf_config=SimpleNamespace(model_type=""))
        found = make_thought_reader(ModelConfig(name="m", reasoning_parser=parser, **fields), checkpoint, tokenizer)
        assert found is not None
        return found

    return make


@pytest.fixture(scope="module")
def read(tokenizer: Any, make_reader: Callable[..., ThoughtReader]) -> Callable[..., Split]:
    """Return what a parser makes of a text; `prompt` is the end of the prompt before it."""

    def read(parser: str, text: str, prompt: str = "", whole: str | None = None, **fields: Any) -> Split:
        ids = [tokenizer.encode(part, add_special_tokens=False) for part in (prompt, text)]
        return make_reader(parser, **fields).read(ids[0], ids[1], whole)

    return read


WRITTEN = {
    # parser: (how a thought begins, how it ends)
    "deepseek_r1": ("<think>", "</think>"),
    "deepseek_v4": ("<think>", "</think>"),
    "ernie45": ("<think>", "</think>"),
    "glm45": ("<think>", "</think>"),
    "hunyuan_a13b": ("<think>\n", "\n</think>\n<answer>\n"),
    "kimi_k2": ("<think>", "</think>"),
    "ling3": ("<think>", "</think>"),
    "mimo": ("<think>", "</think>"),
    "minimax_m2": ("<think>", "</think>"),
    "minimax_m3": ("<mm:think>", "</mm:think>"),
    "nemotron_v3": ("<think>", "</think>"),
    "qwen3": ("<think>", "</think>"),
    "seed_oss": ("<seed:think>", "</seed:think>"),
    "step3p5": ("<think>", "</think>"),
    "granite": ("Here is my thought process:", "Here is my response:"),
}


@pytest.mark.parametrize("parser", WRITTEN)
def test_each_family_s_thought_is_told_from_its_answer(parser: str, read: Callable[..., Split], tokenizer: Any) -> None:
    begin, end = WRITTEN[parser]
    thought, answer = "Is it 4? No: the answer is 5.", "The answer is 5.\nRating: 5"
    written = f"{begin}\n{thought}\n{end}\n\n{answer}"
    split = read(parser, written)
    assert (split.text.rstrip(), split.reasoning) == (answer, thought)
    ids = tokenizer.encode(written, add_special_tokens=False)
    assert split.begin is not None
    assert tokenizer.decode(ids[split.begin :])[split.lead :].startswith(answer)
    assert split.reasoning_tokens == split.begin


def test_an_answer_that_has_marks_of_its_own_is_taken_out_of_them(tokenizer: Any, read: Callable[..., Split]) -> None:
    """Kimi K3 names its channels in plain text between special tokens."""
    opened, answer = "user: Hello assistant:<|open|>think<|sep|>", "Hello there."
    said = f"<|open|>response<|sep|>{answer}<|close|>response<|sep|><|close|>message<|sep|>"
    split = read("kimi_k3", f"Hm.<|close|>think<|sep|>{said}", opened)
    assert (split.text, split.reasoning, split.begin) == (answer, "Hm.", None)
    assert split.reasoning_tokens is not None
    cut = read("kimi_k3", "Hm, so let me", opened)
    assert (cut.text, cut.reasoning) == ("", "Hm, so let me")
    told_not_to = "user: Hello assistant:<|open|>response<|sep|>"
    assert (
        read("kimi_k3", said.partition("<|sep|>")[2], told_not_to, thinking=False, chat_template=SWITCHED).text
        == answer
    )


@pytest.mark.parametrize("parser", ["deepseek_r1", "qwen3", "glm45", "kimi_k2", "step3p5"])
def test_where_the_template_has_opened_the_thought(parser: str, read: Callable[..., Split]) -> None:
    prompt = "user: Hello assistant:<think>\n"
    whole = read(parser, "Hm.\n</think>\n\nHello", prompt)
    assert (whole.reasoning, whole.text) == ("Hm.", "Hello")
    cut = read(parser, "Hm, so let me", prompt)
    assert (cut.reasoning, cut.text, cut.begin) == ("Hm, so let me", "", None)
    silent = read(parser, "Hm.\n</think>\n\n", prompt)
    assert (silent.reasoning, silent.text) == ("Hm.", "")


@pytest.mark.parametrize("parser", ["deepseek_r1", "qwen3", "glm45"])
def test_where_nothing_is_thought_all_is_answer(parser: str, read: Callable[..., Split]) -> None:
    """vLLM's own parsers would take a text without marks for a thought."""
    told_not_to = "user: Hello assistant:<think>\n\n</think>\n\n"
    assert read(parser, "  Hello.\n", told_not_to) == Split("  Hello.\n")
    assert read(parser, "  Hello.\n", "user: Hello assistant:") == Split("  Hello.\n")
    assert read(parser, "Hello", "user: Hello assistant:", thinking=False, chat_template=QWEN) == Split("Hello")


@pytest.mark.parametrize("parser", ["deepseek_r1", "qwen3", "glm45", "kimi_k2", "step3p5", "nemotron_v3", "minimax_m2"])
def test_marks_that_an_answer_quotes_are_part_of_it(parser: str, read: Callable[..., Split]) -> None:
    opened = "user: Hello assistant:<think>\n"
    for answer in ("Use <think>a</think> like so.", "The tag <think> begins it.", "The tag </think> ends it."):
        split = read(parser, f"Hm.</think>\n{answer}", opened)
        assert (split.text, split.reasoning, split.reasoning_tokens) == (answer, "Hm.", split.begin)
    told_not_to = "user: Hello assistant:<think>\n\n</think>\n\n"
    assert read(parser, "Write <think> before it.", told_not_to) == Split("Write <think> before it.")
    assert read(parser, "Write <think> before it.", "user: assistant:") == Split("Write <think> before it.")


@pytest.mark.parametrize("parser", ["qwen3", "glm45", "step3p5", "nemotron_v3"])
def test_a_thought_may_quote_a_call_of_a_tool(parser: str, read: Callable[..., Split]) -> None:
    split = read(parser, "Hm <tool_call> eh.</think>\n\nAnswer.", "user: Hello assistant:<think>\n")
    assert (split.text, split.reasoning) == ("Answer.", "Hm <tool_call> eh.")


def test_where_vllm_cannot_say_that_a_thought_has_ended_no_grammar_is_asked_for(
    make_reader: Callable[..., Any],
) -> None:
    for parser in ("granite", "hunyuan_a13b"):
        assert make_reader(parser).writes_freely
        told_not_to = make_reader(parser, thinking=False, chat_template=SWITCHED)
        assert (told_not_to.writes_freely, told_not_to.has_ended([1, 2])) == (False, True)
    assert not make_reader("deepseek_r1").writes_freely


def test_a_family_that_is_off_unless_told_has_a_budget_where_it_is_told(make_reader: Callable[..., Any]) -> None:
    told = make_reader("deepseek_v3", thinking=True, chat_template=SWITCHED)
    assert (told.can_bound, told.mark_texts) == (True, ("<think>", "</think>"))


def test_an_earlier_thought_in_the_prompt_is_not_this_one_s_end(read: Callable[..., Split]) -> None:
    earlier = "<think>a</think>b" + " word" * 60 + " assistant:<think>\n"
    split = read("deepseek_r1", "Hm.</think>Hello", earlier)
    assert (split.text, split.reasoning, split.begin) == ("Hello", "Hm.", split.reasoning_tokens)


def test_a_text_that_a_stop_string_has_cut(read: Callable[..., Split], tokenizer: Any) -> None:
    split = read("qwen3", "<think>Hm.</think>\nOne. STOP two", whole="<think>Hm.</think>\nOne. ")
    assert (split.text, split.begin, split.reasoning) == ("One. ", None, "Hm.")
    assert split.reasoning_tokens == len(tokenizer.encode("<think>Hm.</think>", add_special_tokens=False))


def test_a_parser_that_cannot_read_the_tokenizer_is_named(tokenizer: Any, read: Callable[..., Split]) -> None:
    with pytest.raises(ConfigError, match=r"^model.reasoning_parser=nonsense cannot read what m writes: .*; take "):
        read("nonsense", "")
    with pytest.raises(ConfigError, match=r"^model.reasoning_parser=kimi_k3000"):
        read("kimi_k3000", "")


class Harmony:
    """The tokenizer of gpt-oss as `transformers` shows it, made of OpenAI's own encoding."""

    chat_template = "<|start|>assistant<|channel|>final<|message|>"

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def get_chat_template(self) -> str:
        return self.chat_template

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self._encoding.encode(text, allowed_special="all"))

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        kept = [token for token in ids if not (skip_special_tokens and self._encoding.is_special_token(token))]
        return str(self._encoding.decode_utf8(kept))


def test_channels_of_gpt_oss_are_read_by_vllm() -> None:
    """Needs OpenAI's `o200k_base.tiktoken` in the directory that TIKTOKEN_ENCODINGS_BASE names, or the network."""
    pytest.importorskip("vllm")
    harmony = pytest.importorskip("openai_harmony")
    if "TIKTOKEN_ENCODINGS_BASE" not in os.environ:
        pytest.skip("TIKTOKEN_ENCODINGS_BASE is not set")
    tokenizer = Harmony(harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS))
    checkpoint = SimpleNamespace(hf_config=SimpleNamespace(model_type="gpt_oss"))
    reader = make_thought_reader(ModelConfig(name="gpt-oss-20b"), checkpoint, tokenizer)
    assert reader is not None
    assert (reader.name, reader.writes_freely, reader.can_bound) == ("openai_gptoss", True, False)
    thought, answer = "The user asks: 2+2. It's 4.", "It is 4.\nRating: 4"
    written = f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>{answer}"
    ids = tokenizer.encode(written)
    split = reader.read([], ids)
    assert (split.text, split.reasoning) == (answer, thought)
    assert split.begin is not None
    assert tokenizer.decode(ids[split.begin :]) == answer
    assert reader.read([], tokenizer.encode(f"<|channel|>final<|message|>{answer}")).text == answer
    cut = reader.read([], tokenizer.encode(f"<|channel|>analysis<|message|>{thought}"))
    assert (cut.text, cut.reasoning, cut.begin) == ("", thought, None)


def test_gpt_oss_without_its_encoding_is_refused_at_the_start(tokenizer: Any, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    program = (
        "from synthgen.engines.vllm_parsers import load_harmony\n"
        "from synthgen.config import ModelConfig\n"
        "load_harmony(ModelConfig(name='gpt-oss-20b'))"
    )
    env = {**os.environ, "TIKTOKEN_ENCODINGS_BASE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert "model.name=gpt-oss-20b cannot be read without OpenAI's file o200k_base.tiktoken" in done.stderr


def test_what_a_recipe_names_is_what_auto_takes_and_changes_no_fingerprint() -> None:
    from synthgen.flow import model_fields

    model = next(one for one in load_models() if one.name == "qwen3.5-27b")
    assert (model.reasoning_parser, model.named_parser) == ("auto", "qwen3")
    assert find_reasoning_parser(model, "unheard_of", "") == "qwen3"
    assert find_reasoning_parser(replace(model, reasoning_parser="none"), "qwen3_5", QWEN) is None
    assert model_fields(model) == model_fields(replace(model, recipe_parser=None))
    assert model_fields(model) != model_fields(replace(model, reasoning_parser="qwen3"))


def test_vllm_has_the_parsers_that_the_catalog_names() -> None:
    pytest.importorskip("vllm")
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    models = load_models()
    unnamed = {"auto", "none"}
    assert {model.named_parser for model in models} - unnamed <= set(ReasoningParserManager.list_registered())
    known = {find_known_tool_parser(model) for model in models} - {None}
    assert known <= set(ToolParserManager.list_registered())
