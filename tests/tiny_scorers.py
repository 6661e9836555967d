"""Small made-up checkpoints that score: a classifier, and a guard that writes safe or unsafe. Their weights are random;
their files are laid out as those of a Hub repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthgen.models.tiny import ensure_tiny_model
from synthgen.records import Messages

LABELS = {0: "BENIGN", 1: "MALICIOUS"}
SHAPE = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 128, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip

_CATEGORIES = (
    "Violent Crimes", "Non-Violent Crimes", "Sex Crimes", "Child Exploitation", "Defamation", "Specialized Advice",
    "Privacy", "Intellectual Property", "Indiscriminate Weapons", "Hate", "Self-Harm", "Sexual Content", "Elections",
    "Code Interpreter Abuse",
)  # fmt: skip
CATEGORIES = "\n".join(f"S{number}: {name}." for number, name in enumerate(_CATEGORIES, 1))

GUARD_TEMPLATE = (
    "{% set role = 'Agent' if messages|length % 2 == 0 else 'User' %}"
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    "Task: Check if there is unsafe content in '{{ role }}' messages in conversations according our safety policy with "
    "the below categories.\n\n"
    f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{CATEGORIES}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
    "<BEGIN CONVERSATION>\n\n"
    "{% for message in messages %}"
    "{% if message.role not in ['user', 'assistant'] %}{{ raise_exception('a role: ' + message.role) }}{% endif %}"
    "{{ 'User' if message.role == 'user' else 'Agent' }}: {{ message.content }}\n\n"
    "{% endfor %}"
    "<END CONVERSATION>\n\n"
    "Provide your safety assessment for ONLY THE LAST {{ role }} message in the above conversation:\n"
    " - First line must read 'safe' or 'unsafe'.\n"
    " - If unsafe, a second line must include a comma-separated list of violated categories."
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
)
"""Llama Guard 3's prompt, as its documentation has it, the categories by their names:
https://www.llama.com/docs/model-cards-and-prompt-formats/llama-guard-3/"""


LINES = "ĊĊ"
"""What Llama Guard writes before its verdict, two line ends, as a byte-level vocabulary spells them."""


def make_classifier(directory: Path) -> Path:
    """Write a LlamaForSequenceClassification with the labels LABELS, and return its directory."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    ids = _copy_tokenizer(directory)
    torch.manual_seed(3)
    config = LlamaConfig(**SHAPE, **ids, initializer_range=0.2, id2label=LABELS)
    LlamaForSequenceClassification(config).float().eval().save_pretrained(directory)
    return directory


def make_prompt_guard(directory: Path, labels: Mapping[int, str] = LABELS) -> Path:
    """Write a DebertaV2ForSequenceClassification with a context of 64 tokens, as Prompt Guard is, and return its
    directory. Its tokenizer puts a token before a text and one behind it."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    ids = _copy_tokenizer(directory)
    path = str(directory / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    around = [(name, tokenizer.token_to_id(name)) for name in ("<|begin_of_text|>", "<|eot_id|>")]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{around[0][0]} $A {around[1][0]}", pair=None, special_tokens=around
    )
    tokenizer.save(path)
    config = DebertaV2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=64,
        relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True,
        pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0, pooler_hidden_size=32,
        initializer_range=0.3, vocab_size=ids["vocab_size"], pad_token_id=ids["pad_token_id"], id2label=dict(labels),
    )  # fmt: skip
    torch.manual_seed(7)
    DebertaV2ForSequenceClassification(config).float().eval().save_pretrained(directory)
    return directory


def make_guard(directory: Path, between: Sequence[Messages]) -> Path:
    """Write a LlamaForCausalLM that answers `safe` or `unsafe` and a category to anything, and return its directory.

    As Llama Guard does it begins with line ends, which its prompt leaves out. Four dimensions of the residual stream
    say what comes next: 0 a first word, 1 the end, 2 a category, 3 the line ends. Which of the two words it is, the
    others say, by all of the prompt.

    Args:
        between: conversations whose verdicts lie around one half.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    ids = _copy_tokenizer(directory)
    safe, unsafe, category, lines = _rename_tokens(directory, ("safe", "unsafe", "ĊS1", LINES))
    config = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": GUARD_TEMPLATE}))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    header = tokenizer.convert_tokens_to_ids("<|end_header_id|>")
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **ids, initializer_range=0.2)).float().eval()
    with torch.no_grad():
        embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
        embeddings[:, :4] = torch.tensor([8.0, 0.0, 0.0, 0.0])
        embeddings[safe, :4] = embeddings[category, :4] = torch.tensor([0.0, 8.0, 0.0, 0.0])
        embeddings[unsafe, :4] = torch.tensor([0.0, 0.0, 8.0, 0.0])
        embeddings[header, :4] = torch.tensor([0.0, 0.0, 0.0, 8.0])
        head.mul_(0.1)
        head[:, :4] = 0.0
        head[[safe, unsafe], 0] = 3.0
        head[ids["eos_token_id"], 1] = head[category, 2] = head[lines, 3] = 1000.0
        head[safe, 4:] = 10.0 * torch.randn(SHAPE["hidden_size"] - 4)
        head[unsafe, 4:] = -head[safe, 4:]
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:4] = 0.0
            layer.mlp.down_proj.weight[:4] = 0.0
        asked = [tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"] + [lines] for turns in between]
        last = [model.model(torch.tensor([prompt]))[0][0, -1] for prompt in asked]
        middle = torch.stack([(state @ (head[safe] - head[unsafe])) / state[0] for state in last]).mean()
        head[safe, 0] -= middle / 2
        head[unsafe, 0] += middle / 2
    model.save_pretrained(directory)
    return directory


def _copy_tokenizer(directory: Path) -> dict[str, Any]:
    """Copy the tiny model's tokenizer, and return the numbers of its vocabulary that a config.json holds."""
    source = ensure_tiny_model()
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, directory / name)
    config = json.loads((source / "config.json").read_text())
    names = ("vocab_size", "bos_token_id", "eos_token_id")
    added = {
        token["content"]: token["id"] for token in json.loads((source / "tokenizer.json").read_text())["added_tokens"]
    }
    return {**{name: config[name] for name in names}, "pad_token_id": added["<|finetune_right_pad_id|>"]}


def _rename_tokens(directory: Path, names: tuple[str, ...]) -> list[int]:
    """Give the tokens that were learnt last other texts, and return their ids. No other token is made of them."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    model = tokenizer["model"]
    found = []
    for name in names:
        left, right = model["merges"].pop()
        found.append(model["vocab"].pop(left + right))
        model["vocab"][name] = found[-1]
    path.write_text(json.dumps(tokenizer))
    return found
