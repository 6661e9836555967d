"""verl: `RMDataset` for pairs of plain text and `MultiTurnSFTDataset` for SFT, from the Parquet files."""

from __future__ import annotations

from trainers.expected import SIDES, Result, Work, compare, main, render


def check(work: Work) -> list[Result]:
    """Load the pairs and the SFT rows."""
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.utils.dataset.rm_dataset import RMDataset

    tokenizer = work.load_tokenizer()
    pairs = RMDataset(work.files("text"), tokenizer, max_length=4096, cache_dir=str(work.scratch / "verl"))
    found = [
        [_decode(tokenizer, item["input_ids"][side], item["attention_mask"][side]) for side in (0, 1)]
        for item in (pairs[index] for index in range(len(pairs)))
    ]
    expected = [
        [f"{row['prompt']}{tokenizer.bos_token}{row[side]}{tokenizer.eos_token}" for side in SIDES]
        for row in work.rows("text")
    ]
    sft = MultiTurnSFTDataset(work.files("sft"), tokenizer, {"max_length": 4096, "pad_mode": "no_padding"})
    items = [sft[index] for index in range(len(sft))]
    whole = [
        [tokenizer.decode(item["input_ids"]), tokenizer.decode(item["input_ids"][item["loss_mask"].bool()])]
        for item in items
    ]
    learnt = [
        [
            render(row["messages"]),
            "".join(f"{turn['content']}<|im_end|>\n" for turn in row["messages"] if turn["role"] == "assistant"),
        ]
        for row in work.rows("sft")
    ]
    return [
        compare("Reward", "text", "RMDataset", expected, found, "reads plain text: no chat template is applied"),
        compare("SFT", "sft", "MultiTurnSFTDataset", learnt, whole),
    ]


def _decode(tokenizer, ids, mask) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    text: str = tokenizer.decode(ids[mask.bool()])
    return text.removeprefix(tokenizer.bos_token)


if __name__ == "__main__":
    main(check)
