"""open-instruct: `load_dataset_configs` and its transforms for DPO, reward models and SFT."""

from __future__ import annotations

from typing import Any

from trainers.expected import SIDES, Result, Work, compare, main, render, stub


def check(work: Work) -> list[Result]:
    """Load the pairs and the SFT rows, from the directory of their config."""
    tokenizer = work.load_tokenizer()
    # After transformers, which would take them for the real ones.
    stub("beaker", "wandb")

    def load(config: str, transforms: dict[str, dict[str, Any]]) -> Any:
        from open_instruct.dataset_transformation import get_dataset_v1, load_dataset_configs

        directory = str(work.dataset / config)
        (own,) = load_dataset_configs([directory, "1.0"], ["train"], list(transforms), list(transforms.values()))
        return get_dataset_v1(own, _settings(tokenizer))

    expected = [[render(row["prompt"] + row[side]) for side in SIDES] for row in work.rows("default")]
    learnt = [[f"{row[side][0]['content']}<|im_end|>\n" for side in SIDES] for row in work.rows("default")]
    tulu: dict[str, dict[str, Any]] = {
        "preference_tulu_tokenize_and_truncate_v1": {"max_seq_length": 8192},
        "preference_tulu_filter_v1": {},
    }
    dpo = load("conversations", tulu)
    text = tokenizer.decode
    found = [
        [[text(row[f"{side}_input_ids"]) for side in SIDES], [_learnt(tokenizer, row, side) for side in SIDES]]
        for row in dpo
    ]
    reward = load("conversations", {"preference_tokenize_v1": {}})
    both = [list(pair) for pair in zip(expected, learnt, strict=True)]
    prompts = [render(row["prompt"], generation=True) for row in work.rows("default")]
    sft = load("sft", {"sft_tulu_tokenize_and_truncate_v1": {"max_seq_length": 8192}, "sft_tulu_filter_v1": {}})
    return [
        compare("DPO", "conversations", "preference_tulu_tokenize_and_truncate_v1", both, found),
        compare(
            "Reward",
            "conversations",
            "preference_tokenize_v1",
            [[prompt, *texts] for prompt, texts in zip(prompts, expected, strict=True)],
            [
                [text(row[part]) for part in ("input_ids_prompt", "chosen_input_ids", "rejected_input_ids")]
                for row in reward
            ],
        ),
        compare(
            "SFT",
            "sft",
            "sft_tulu_tokenize_and_truncate_v1",
            [render(row["messages"]) for row in work.rows("sft")],
            [text(row["input_ids"]) for row in sft],
        ),
    ]


def _learnt(tokenizer: Any, row: dict[str, Any], side: str) -> str:
    decoded: str = tokenizer.decode([label for label in row[f"{side}_labels"] if label >= 0])
    return decoded


def _settings(tokenizer: Any) -> Any:
    """What `get_dataset_v1` reads of its `TokenizerConfig`, which would load the tokenizer its own way."""
    from dataclasses import make_dataclass

    fields = {"chat_template_name": None, "get_tokenizer_fn": "own", "tokenizer_files_hash": []}
    settings = make_dataclass("Settings", list(fields))(**fields)
    settings.tokenizer = tokenizer
    return settings


if __name__ == "__main__":
    main(check)
