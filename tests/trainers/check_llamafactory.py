"""LLaMA-Factory: `get_dataset` by way of `dataset_info.json`, down to token ids under its `chatml` template."""

from __future__ import annotations

import os
from typing import Any

from synthgen.export.sharegpt import align_turns
from trainers.expected import SIDES, Result, Work, compare, main, render, stub

os.environ["DISABLE_VERSION_CHECK"] = "1"
stub("torchaudio")


def check(work: Work) -> list[Result]:
    """Load the pairs, the KTO rows and the SFT rows."""
    pairs, kto, sft = (work.rows(name) for name in ("default", "kto", "sft"))
    return [
        compare(
            "DPO",
            "sharegpt",
            "get_dataset(stage='rm')",
            [[_prompt(row), *(row[side][0]["content"] for side in SIDES)] for row in pairs],
            _load(work, "pairs", "rm"),
        ),
        compare(
            "KTO",
            "kto_conversations",
            "get_dataset(stage='kto')",
            [[_prompt(row), row["completion"][0]["content"], row["label"]] for row in kto],
            _load(work, "kto", "kto"),
        ),
        compare(
            "SFT",
            "sharegpt_sft",
            "get_dataset(stage='sft')",
            [_answers(row) for row in sft],
            _load(work, "sft", "sft"),
        ),
    ]


def _prompt(row: dict[str, Any]) -> str:
    turns = align_turns(row["prompt"])
    return render([turn for turn in turns if (turn["role"], turn["content"]) != ("system", "")], generation=True)


def _answers(row: dict[str, Any]) -> str:
    turns = align_turns(row["messages"][:-1]) + row["messages"][-1:]
    return "<|im_end|>\n".join(turn["content"] for turn in turns if turn["role"] == "assistant")


def _load(work: Work, name: str, stage: str) -> list[Any]:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args

    model_args, data_args, training_args, _, _ = get_train_args(
        {
            "stage": {"rm": "dpo"}.get(stage, stage),
            "do_train": True,
            "model_name_or_path": str(work.tokenizer),
            "dataset_dir": str(work.dataset),
            "dataset": name,
            "template": "chatml",
            "finetuning_type": "full",
            "output_dir": str(work.scratch / name),
            "overwrite_cache": True,
            "cutoff_len": 8192,
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
        }
    )
    tokenizer = work.load_tokenizer()
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    data = get_dataset(template, model_args, data_args, training_args, stage=stage, tokenizer=tokenizer)
    rows = data["train_dataset"]

    def split(ids: list[int], labels: list[int]) -> tuple[str, str]:
        learnt = [token for token in labels if token >= 0]
        answer = tokenizer.decode(learnt).removesuffix("\n").removesuffix("<|im_end|>")
        return tokenizer.decode(ids[: len(ids) - len(learnt)]), answer

    if stage == "rm":
        both = [[split(row[f"{side}_input_ids"], row[f"{side}_labels"]) for side in SIDES] for row in rows]
        return [[chosen[0], chosen[1], rejected[1]] for chosen, rejected in both]
    if stage == "kto":
        return [[*split(row["input_ids"], row["labels"]), row["kto_tags"]] for row in rows]
    return [split(row["input_ids"], row["labels"])[1] for row in rows]


if __name__ == "__main__":
    main(check)
