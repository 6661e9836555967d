"""Conversations to token ids: the template is the tokenizer's, and hostile text stays text."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.engines.prompt_encoder import PromptEncoder
from synthgen.errors import ConfigError
from synthgen.models.tiny_tokenizer import SPECIAL_TOKENS
from synthgen.records import Message, Request, RequestFailure, Sampling

CONTEXT = 16384


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> PromptEncoder:
    return PromptEncoder(tokenizer, None, "tiny")


def test_arguments_of_the_template_reach_it(tokenizer: Any) -> None:
    template = "{% if enable_thinking %}<think>{% endif %}{{ messages[0]['content'] }}"
    asked = make_request(("user", "Why?"))
    plain = PromptEncoder(tokenizer, template, "tiny")
    thinking = PromptEncoder(tokenizer, template, "tiny", {"enable_thinking": True})
    texts = [tokenizer.decode(encode_one(encoder, asked)) for encoder in (plain, thinking)]
    assert texts == ["Why?", "<think>Why?"]


def make_request(*turns: tuple[str, str]) -> Request:
    return Request("r", [Message(role=role, content=content) for role, content in turns], Sampling())


def encode_one(encoder: PromptEncoder, request: Request, context_length: int = CONTEXT) -> list[int]:
    (encoded,) = encoder.encode([request], context_length)
    assert isinstance(encoded, Request), encoded
    assert encoded.prompt_token_ids is not None
    return list(encoded.prompt_token_ids)


def test_encode_gives_what_transformers_gives(encoder: PromptEncoder, tokenizer: Any) -> None:
    requests = [
        make_request(("user", "How far is the moon?")),
        make_request(("system", "Be brief."), ("user", "Hallo"), ("assistant", "Ja?"), ("user", "東京 🎈\n\n  x")),
    ]
    for request, encoded in zip(requests, encoder.encode(requests, CONTEXT), strict=True):
        assert isinstance(encoded, Request)
        expected = tokenizer.apply_chat_template(list(request.messages), add_generation_prompt=True, return_dict=False)
        assert encoded.prompt_token_ids == expected


def test_encode_continues_a_last_assistant_turn(encoder: PromptEncoder, tokenizer: Any) -> None:
    ids = encode_one(encoder, make_request(("user", "Count."), ("assistant", "One, two")))
    assert tokenizer.decode(ids).endswith("assistant<|end_header_id|>\n\nOne, two")


def test_encode_puts_failures_in_their_places(encoder: PromptEncoder) -> None:
    good = make_request(("user", "short"))
    refused = make_request(("wizard", "abracadabra"))
    long = make_request(("user", "many words " * 50))
    encoded = encoder.encode([refused, good, long, good], 60)
    assert [getattr(item, "reason", "ok") for item in encoded] == ["chat_template", "ok", "prompt_too_long", "ok"]
    assert isinstance(encoded[0], RequestFailure)
    assert "unknown role wizard" in encoded[0].message


def test_encode_leaves_room_for_one_token(encoder: PromptEncoder) -> None:
    request = make_request(("user", "How far is the moon?"))
    length = len(encode_one(encoder, request))
    assert isinstance(encoder.encode([request], length)[0], RequestFailure)
    assert isinstance(encoder.encode([request], length + 1)[0], Request)


def test_encode_without_a_chat_template_is_a_configuration_error(tiny_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(tiny_model_dir)
    bare.chat_template = None
    with pytest.raises(ConfigError, match=r"no chat template.*model\.chat_template"):
        PromptEncoder(bare, None, "tiny")
    own = PromptEncoder(bare, "{% for m in messages %}[{{ m['content'] }}]{% endfor %}", "tiny")
    assert bare.decode(encode_one(own, make_request(("user", "hi")))) == "[hi]"


def test_encode_takes_lone_surrogates_and_control_characters(encoder: PromptEncoder, tokenizer: Any) -> None:
    ids = encode_one(encoder, make_request(("user", "a\ud83db \x00 \ufdd0 \ud83d\ude00")))
    assert "a\ufffdb \x00 \ufffd 😀" in tokenizer.decode(ids)


@given(st.lists(st.one_of(st.sampled_from(SPECIAL_TOKENS), st.text(max_size=8)), min_size=1, max_size=8).map("".join))
def test_encode_keeps_spelt_out_special_tokens_plain(encoder: PromptEncoder, tokenizer: Any, content: str) -> None:
    ids = encode_one(encoder, make_request(("user", content)))
    empty = encode_one(encoder, make_request(("user", "")))
    special = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    assert [i for i in ids if i in special] == [i for i in empty if i in special]
    assert tokenizer.decode(ids).count(content.strip().replace("\ufdd0", "\ufffd")) >= 1


def test_conversation_is_shown_as_it_stands_or_its_text_alone(encoder: PromptEncoder, tokenizer: Any) -> None:
    asked = make_request(("user", "Why?"), ("assistant", "Because <|eot_id|>"))
    whole = tokenizer.decode(encode_one(encoder, replace(asked, render="whole")))
    assert whole.endswith("<|end_header_id|>\n\nBecause <|eot_id|><|eot_id|>")  # nothing is asked for or continued
    plain = encode_one(encoder, replace(asked, render="plain"))
    assert tokenizer.decode(plain) == "<|begin_of_text|>Why?\n\nBecause <|eot_id|>"
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") not in plain


def test_template_that_takes_parts_is_given_parts(tokenizer: Any) -> None:
    """Llama Guard 3 1B's template shows nothing of a text that is no list."""
    template = (
        "{% for m in messages %}{{ m.role }}: "
        "{% for c in m.content | selectattr('type', 'equalto', 'text') %}{{ c.text }}{% endfor %};{% endfor %}"
    )
    request = make_request(("user", "Why <|eot_id|>?"), ("assistant", "So."))
    encoder = PromptEncoder(tokenizer, template, "guard")
    ids = encode_one(encoder, replace(request, render="whole"))
    assert tokenizer.decode(ids) == "user: Why <|eot_id|>?;assistant: So.;"
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") not in ids


def test_classifier_needs_no_template(tokenizer: Any) -> None:
    bare = copy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        PromptEncoder(bare, None, "base")
    encoder = PromptEncoder(bare, None, "classifier", writes=False)
    request = make_request(("user", "Why?"))
    assert encode_one(encoder, replace(request, render="plain")) == bare("Why?")["input_ids"]
    [refused] = encoder.encode([replace(request, render="whole")], CONTEXT)
    assert isinstance(refused, RequestFailure)
    assert refused.reason == "chat_template"
