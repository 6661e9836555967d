"""What is known before a model is loaded agrees with what its engine does."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.config import ModelConfig
from synthgen.config.sampling import list_sampling_problems
from synthgen.engines.adapters import check_adapter
from synthgen.engines.preflight import check_requests
from synthgen.engines.prompt_encoder import PromptEncoder, fold_system
from synthgen.engines.templates import TemplateRefusedError, read_template
from synthgen.errors import ConfigError
from synthgen.records import Message, Request, Sampling

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""
"""Refuses system messages and turns that do not alternate, as the template of Gemma 2 does."""

CONVERSATIONS = [
    [Message(role="user", content="How far is the moon? ✨")],
    [Message(role="system", content="Be brief."), Message(role="user", content="Hello")],
    [
        Message(role="system", content="Be brief."),
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Yes?"),
        Message(role="user", content="{{ 1 }} {% raise %}"),
    ],
    [Message(role="wizard", content="abracadabra")],
]


def request_of(turns: list[Message], n: int = 1, **sampling: Any) -> Request:
    return Request("r", turns, Sampling(**sampling), n=n)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.mark.parametrize("template", [None, GEMMA])
@pytest.mark.parametrize("turns", CONVERSATIONS, ids=["user", "system", "turns", "wizard"])
def test_template_says_what_the_encoder_says(
    tokenizer: Any, tiny_model_dir: Path, template: str | None, turns: list[Message]
) -> None:
    model = ModelConfig(name="tiny", id=str(tiny_model_dir), chat_template=template)
    here = read_template(model)
    assert here is not None
    try:
        wanted = tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception:
        with pytest.raises(TemplateRefusedError):
            here.render(turns)
        return
    assert here.render(turns) == wanted


def test_encoder_folds_a_system_message_that_the_template_refuses(tokenizer: Any) -> None:
    encoder = PromptEncoder(tokenizer, GEMMA, "gemma")
    assert encoder.folds_system
    assert not PromptEncoder(tokenizer, None, "tiny").folds_system
    for turns in CONVERSATIONS[:3]:
        (encoded,) = encoder.encode([request_of(turns)], 16384)
        assert isinstance(encoded, Request), encoded
        text = tokenizer.decode(encoded.prompt_token_ids)
        assert all(message["content"] in text for message in turns)


def test_fold_system_puts_it_before_the_first_user_turn() -> None:
    system, user = Message(role="system", content="Be brief."), Message(role="user", content="Hello")
    assert fold_system([system, user]) == [Message(role="user", content="Be brief.\n\nHello")]
    assert fold_system([system]) == [Message(role="user", content="Be brief.")]
    assert fold_system([user, system]) == [user, system]


def test_check_requests_tells_of_the_fold_and_refuses_what_no_fold_mends(tiny_model_dir: Path) -> None:
    model = ModelConfig(name="gemma", id=str(tiny_model_dir), chat_template=GEMMA)
    assert check_requests("judge", model, [request_of(CONVERSATIONS[1])]).folds_system
    assert not check_requests("judge", model, [request_of(CONVERSATIONS[0])]).folds_system
    two_users = [Message(role="user", content="a"), Message(role="user", content="b")]
    assert not check_requests("judge", model, [request_of(two_users), request_of(CONVERSATIONS[0])]).folds_system
    with pytest.raises(ConfigError, match=r"judge: the chat template of gemma refuses .* the turns user, user"):
        check_requests("judge", model, [request_of(two_users)])


def test_check_requests_tells_of_a_system_message_that_is_left_out(tiny_model_dir: Path) -> None:
    deaf = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    model = ModelConfig(name="deaf", id=str(tiny_model_dir), chat_template=deaf)
    assert check_requests("judge", model, [request_of(CONVERSATIONS[1])]).drops_system
    assert not check_requests("judge", model, [request_of(CONVERSATIONS[0])]).drops_system


def test_check_requests_passes_over_what_is_not_here() -> None:
    findings = check_requests("judge", ModelConfig(name="x", id="nobody/nothing"), [request_of(CONVERSATIONS[1])])
    assert findings.unchecked == "its chat template is not on this machine yet"


def test_check_requests_finds_a_base_model(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "base")
    path = tmp_path / "base" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    path.write_text(json.dumps(config))
    (tmp_path / "base" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="has no chat template"):
        check_requests("judge", ModelConfig(name="base", id=str(tmp_path / "base")), [request_of(CONVERSATIONS[0])])


NUMBERS = st.sampled_from([-3.0, -2.0, -1.0, -0.1, 0.0, 0.001, 0.5, 1.0, 1.5, 2.0, 2.1, 50.0, math.inf, math.nan])
SAMPLINGS = st.builds(
    Sampling,
    temperature=NUMBERS,
    top_p=NUMBERS,
    top_k=st.integers(-2, 2),
    min_p=NUMBERS,
    max_tokens=st.integers(-1, 3),
    min_tokens=st.integers(-1, 4),
    repetition_penalty=NUMBERS,
    presence_penalty=NUMBERS,
    frequency_penalty=NUMBERS,
    stop=st.sampled_from([(), ("x",), ("",)]),
)
ONE_WRONG = st.one_of(
    *[
        st.builds(lambda value, key=key: Sampling(**{key: value}), NUMBERS)
        for key in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    ],
    st.builds(lambda k: Sampling(top_k=k), st.integers(-3, 3)),
    st.builds(lambda low, high: Sampling(min_tokens=low, max_tokens=high), st.integers(-2, 5), st.integers(-1, 5)),
    st.builds(lambda stop: Sampling(stop=stop), st.sampled_from([(), ("x",), ("x", "")])),
)


@pytest.mark.vllm
@settings(max_examples=400, deadline=None)
@given(sampling=st.one_of(ONE_WRONG, SAMPLINGS), n=st.sampled_from([-1, 0, 1, 2, 16384, 16385]))
def test_sampling_rules_are_those_of_vllm(sampling: Sampling, n: int) -> None:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError

    try:
        given = {**asdict(sampling), "stop": list(sampling.stop), "logit_bias": None}
        SamplingParams(n=n, thinking_token_budget=given.pop("thinking_budget"), **given)
        refused = False
    except (VLLMClientError, ValueError):
        refused = True
    problems = list(list_sampling_problems("s", sampling, n=n, n_key="n", one_by_one=False))
    assert bool(problems) == refused, problems


def test_endpoint_may_be_greedy_with_several_completions() -> None:
    greedy = Sampling(temperature=0)
    assert list(list_sampling_problems("s", greedy, n=4, n_key="n", one_by_one=True)) == []
    (problem,) = list_sampling_problems("s", greedy, n=4, n_key="n", one_by_one=False)
    assert problem.startswith("s.temperature=0 with n=4: greedy completions")


def write_adapter(path: Path, **config: Any) -> ModelConfig:
    import numpy as np
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "peft_type": "LORA", **config}
    (path / "adapter_config.json").write_text(json.dumps(settings))
    save_file({"base_model.model.x.lora_A.weight": np.zeros((4, 8), np.float32)}, path / "adapter_model.safetensors")
    return ModelConfig(name="tiny", id="org/tiny", lora=str(path))


def test_adapter_that_is_whole_is_accepted_and_one_of_another_model_is_doubted(tmp_path: Path) -> None:
    assert check_adapter(write_adapter(tmp_path / "good", base_model_name_or_path="other/TINY")) is None
    doubt = check_adapter(write_adapter(tmp_path / "other", base_model_name_or_path="org/large"))
    assert doubt == f"model.lora={tmp_path / 'other'} was made for org/large, and model.id is org/tiny"
    assert check_adapter(ModelConfig(lora="org/not-fetched-yet")) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "adapter_config.json").unlink(), "holds no adapter_config.json"),
        (lambda path: (path / "adapter_config.json").write_text("{"), "is not that of a LoRA adapter"),
        (lambda path: (path / "adapter_config.json").write_text("null"), "is not that of a LoRA adapter"),
        (lambda path: (path / "adapter_config.json").write_text('{"r": 0}'), "r=0; a rank is a whole number above 0"),
        (lambda path: (path / "adapter_config.json").write_text('{"r": 1024}'), "has rank 1024; vLLM takes up to 512"),
        (lambda path: (path / "adapter_config.json").write_text('{"r": 4, "use_dora": true}'), "use_dora"),
        (lambda path: (path / "adapter_config.json").write_text('{"r": 4, "peft_type": "IA3"}'), "peft_type=IA3"),
        (lambda path: (path / "adapter_model.safetensors").unlink(), "holds no weights"),
        (lambda path: (path / "adapter_model.safetensors").write_bytes(b"torn"), "is not a whole safetensors file"),
        (lambda path: cut_in_half(path / "adapter_model.safetensors"), "is not a whole safetensors file"),
        (shutil.rmtree, "is neither a directory nor a Hub id"),
    ],
)
def test_adapter_that_cannot_be_loaded_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    model = write_adapter(tmp_path / "adapter")
    damage(tmp_path / "adapter")
    with pytest.raises(ConfigError, match=rf"model\.lora={tmp_path / 'adapter'}.*{message}"):
        check_adapter(model)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
