"""NeMo-RL: `load_preference_dataset` and `preference_preprocessor`, and `ResponseDataset` for SFT."""

from __future__ import annotations

from typing import Any

from trainers.expected import SIDES, Result, Work, compare, main, render, stub


def check(work: Work) -> list[Result]:
    """Load the pairs and the SFT rows."""
    tokenizer = work.load_tokenizer()
    # After transformers, which would take them for the real ones.
    stub("soundfile", "decord", "torchaudio", "librosa", "absl")
    from nemo_rl.data.datasets.preference_datasets import load_preference_dataset
    from nemo_rl.data.datasets.response_datasets.response_dataset import ResponseDataset
    from nemo_rl.data.processors import preference_preprocessor

    where: dict[str, Any] = {"data_path": str(work.dataset), "split": "train"}
    pairs = load_preference_dataset({"dataset_name": "PreferenceDataset", "subset": "ranked", **where})
    found = []
    for index, row in enumerate(pairs.dataset):
        made = preference_preprocessor(row, pairs.task_spec, tokenizer, 8192, index)
        logs = [made[f"message_log_{side}"] for side in SIDES]
        found.append([tokenizer.decode([int(i) for turn in log for i in turn["token_ids"]]) for log in logs])
    # Its own first and last token stand around what the template gives.
    expected = [
        [f"{tokenizer.bos_token}{render(row['prompt'] + row[side])}{tokenizer.eos_token}" for side in SIDES]
        for row in work.rows("default")
    ]
    sft = ResponseDataset(subset="sft", **where)
    return [
        compare("DPO", "ranked", "PreferenceDataset, preference_preprocessor", expected, found),
        compare(
            "SFT",
            "sft",
            "ResponseDataset",
            [row["messages"] for row in work.rows("sft")],
            [row["messages"] for row in sft.dataset],
        ),
    ]


if __name__ == "__main__":
    main(check)
