"""OpenRLHF: `blending_datasets`, then `RewardDataset` and `SFTDataset` with the chat template."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from trainers.expected import Result, Work, compare, main, pair_texts, render


def check(work: Work) -> list[Result]:
    """Load the pairs with and without a prompt column, and the SFT rows."""
    from openrlhf.datasets import RewardDataset, SFTDataset
    from openrlhf.datasets.utils import blending_datasets

    tokenizer = work.load_tokenizer()

    def load(path: str, make: Any, **keys: Any) -> Any:
        data = SimpleNamespace(apply_chat_template=True, tokenizer_chat_template=None, **keys)
        strategy = SimpleNamespace(
            args=SimpleNamespace(data=data, use_ms=False), print=lambda *_: None, is_rank_0=lambda: False
        )
        rows = blending_datasets(path, None, strategy, 1, dataset_split="train")
        return make(rows, tokenizer, 8192, strategy)

    def dpo(*arguments: Any) -> Any:
        return RewardDataset(*arguments, is_dpo=True, num_processors=1)

    def reward(*arguments: Any) -> Any:
        return RewardDataset(*arguments, is_dpo=False, num_processors=1)

    def sft(*arguments: Any) -> Any:
        return SFTDataset(*arguments, num_processors=1)

    pairs = pair_texts(work.rows("default"))
    sides = {"chosen_key": "chosen", "rejected_key": "rejected"}
    results = []
    for task, config, path, make, keys in (
        ("DPO", "default", str(work.dataset), dpo, {"prompt_key": "prompt"}),
        ("Reward", "default", str(work.dataset), reward, {"prompt_key": "prompt"}),
        ("DPO", "conversations", f"{work.dataset}/conversations", dpo, {"prompt_key": None}),
    ):
        data = load(path, make, **sides, **keys)
        found = [list(texts) for texts in zip(data.prompts, data.chosens, data.rejects, strict=True)]
        results.append(compare(task, config, "blending_datasets, RewardDataset", pairs, found))
    data = load(f"{work.dataset}/sft", sft, input_key="messages", output_key=None)
    whole = [prompt + answer for prompt, answer in zip(data.prompts, data.responses, strict=True)]
    expected = [render(row["messages"]) for row in work.rows("sft")]
    return [*results, compare("SFT", "sft", "blending_datasets, SFTDataset", expected, whole)]


if __name__ == "__main__":
    main(check)
