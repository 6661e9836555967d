"""axolotl: `prepare_preference_datasets` for DPO and KTO, `prepare_datasets`' strategy for SFT, down to its texts."""

from __future__ import annotations

import os
from typing import Any

from trainers.expected import SIDES, Result, Work, compare, main, render

os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"


def check(work: Work) -> list[Result]:
    """Load the pairs, the KTO rows and the SFT rows."""
    pairs, kto = work.rows("default"), work.rows("kto_conversations")
    dpo = {"type": "chat_template.default", "field_messages": "prompt"}
    found = _load(work, "dpo", {"name": "default", **dpo})
    whole = _load(work, "dpo", {"name": "conversations", "type": "chat_template.argilla_chat"})
    results = []
    for config, loaded in (("default", found), ("conversations", whole)):
        results.append(
            compare(
                "DPO",
                config,
                "prepare_preference_datasets",
                [
                    [
                        render(row["prompt"], generation=True),
                        *(f"{row[side][0]['content']}<|im_end|>".rstrip() for side in SIDES),
                    ]
                    for row in pairs
                ],
                [[row["prompt"], row["chosen"], row["rejected"]] for row in loaded],
                "a completion that the template's own text holds is cut from there",
            )
        )
    results.append(
        compare(
            "KTO",
            "kto_conversations",
            "prepare_preference_datasets",
            [
                [
                    render(row["completion"][:-1], generation=True),
                    f"{row['completion'][-1]['content']}<|im_end|>",
                    row["label"],
                ]
                for row in kto
            ],
            [
                [row["prompt"], row["completion"], row["label"]]
                for row in _load(work, "kto", {"name": "kto_conversations", "type": "chatml.argilla_chat"})
            ],
        )
    )
    results.append(_check_sft(work))
    return results


def _config(work: Work, rl: str | None, dataset: dict[str, Any]) -> Any:
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.enums import RLType

    return DictDefault(
        {
            "rl": RLType(rl) if rl else None,
            "base_model": str(work.tokenizer),
            "tokenizer_config": str(work.tokenizer),
            "chat_template": "tokenizer_default",
            "datasets": [{"path": str(work.dataset), "split": "train", **dataset}],
            "sequence_len": 4096,
            "dataset_prepared_path": str(work.scratch / f"axolotl-{rl}-{dataset['name']}"),
            "dataset_num_proc": 1,
            "seed": 1,
        }
    )


def _load(work: Work, rl: str, dataset: dict[str, Any]) -> list[dict[str, Any]]:
    from axolotl.utils.data.rl import prepare_preference_datasets

    train, _ = prepare_preference_datasets(_config(work, rl, dataset), work.load_tokenizer())
    return list(train)


def _check_sft(work: Work) -> Result:
    from axolotl.prompt_strategies.chat_template import load
    from axolotl.utils.data.shared import load_dataset_with_config

    tokenizer = work.load_tokenizer()
    config = _config(work, None, {"name": "sft", "type": "chat_template", "field_messages": "messages"})
    strategy = load(tokenizer, config, config.datasets[0])
    rows = load_dataset_with_config(config.datasets[0], False)
    ids = [strategy.tokenize_prompt(row)["input_ids"] for row in rows]
    expected = [render(row["messages"]) for row in work.rows("sft")]
    return compare("SFT", "sft", "chat_template strategy", expected, [tokenizer.decode(row) for row in ids])


if __name__ == "__main__":
    main(check)
