"""TRL: its DPO, KTO, SFT and reward trainers on the tiny model, a step each, and the ids that they train on."""

from __future__ import annotations

from typing import Any

from trainers.expected import SIDES, Result, Work, compare, main, pair_texts, render

ARGUMENTS: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "max_length": None,
}


def check(work: Work) -> list[Result]:
    """Train a step on each config that TRL takes."""
    import torch
    import trl
    from datasets import load_dataset

    torch.set_num_threads(1)
    tokenizer = work.load_tokenizer()

    def train(config: str, method: str) -> Any:
        data = load_dataset(str(work.dataset), config, split="train")
        arguments = getattr(trl, f"{method}Config")(output_dir=str(work.scratch / f"trl-{config}"), **ARGUMENTS)
        trainer = getattr(trl, f"{method}Trainer")(
            model=str(work.tokenizer), args=arguments, train_dataset=data, processing_class=tokenizer
        )
        trainer.train()
        return trainer.train_dataset

    text = tokenizer.decode
    pairs, results = pair_texts(work.rows("default")), []
    for config in ("default", "conversations", "ultrafeedback"):
        rows = train(config, "DPO")
        found = [[text(row[f"{part}_ids"]) for part in ("prompt", *SIDES)] for row in rows]
        results.append(compare("DPO", config, "DPOTrainer", pairs, found))
    rows = train("kto", "KTO")
    results.append(
        compare(
            "KTO",
            "kto",
            "KTOTrainer",
            [
                [
                    render(row["prompt"], generation=True) + f"{row['completion'][0]['content']}<|im_end|>\n",
                    row["label"],
                ]
                for row in work.rows("kto")
            ],
            [[text(row["prompt_ids"] + row["completion_ids"]), row["label"]] for row in rows],
        )
    )
    rows = train("sft", "SFT")
    expected = [render(row["messages"]) for row in work.rows("sft")]
    results.append(compare("SFT", "sft", "SFTTrainer", expected, [text(row["input_ids"]) for row in rows]))
    rows = train("default", "Reward")
    sides = [[render(row["prompt"] + row[side]) for side in SIDES] for row in work.rows("default")]
    found = [[text(row[f"{side}_ids"]) for side in SIDES] for row in rows]
    results.append(compare("Reward", "default", "RewardTrainer", sides, found))
    return results


if __name__ == "__main__":
    main(check)
