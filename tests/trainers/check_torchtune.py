"""torchtune: `preference_dataset` and `chat_dataset`, down to what they hand to a model's tokenizer and take back."""

from __future__ import annotations

from typing import Any

from synthgen.export.sharegpt import align_turns
from trainers.expected import SIDES, Result, Work, compare, main, render


def check(work: Work) -> list[Result]:
    """Load the pairs and the SFT rows."""
    from torchtune.datasets import chat_dataset, preference_dataset

    tokenizer = _Tokenizer(work)
    text = tokenizer.plain.decode

    pairs = preference_dataset(tokenizer, source=str(work.dataset), name="conversations", split="train")
    rows = [pairs[index] for index in range(len(pairs))]
    found = [[part for side in SIDES for part in _split(row, side, text)] for row in rows]
    expected = [
        [
            part
            for side in SIDES
            for part in (
                render(row["prompt"] + row[side]),
                "".join(render([turn]) for turn in row["prompt"] + row[side] if turn["role"] == "assistant"),
            )
        ]
        for row in work.rows("default")
    ]
    sft = chat_dataset(
        tokenizer,
        source=str(work.dataset),
        name="sharegpt_sft",
        conversation_column="conversations",
        conversation_style="sharegpt",
        split="train",
    )
    whole = [text(sft[index]["tokens"]) for index in range(len(sft))]
    files = preference_dataset(tokenizer, source="parquet", data_files=work.files("conversations"), split="train")
    assert len(files) == len(pairs)
    sft_texts = [render(align_turns(row["messages"][:-1]) + row["messages"][-1:]) for row in work.rows("sft")]
    return [
        compare("DPO", "conversations", "preference_dataset", expected, found),
        compare("SFT", "sharegpt_sft", "chat_dataset", sft_texts, whole),
    ]


def _split(row: dict[str, Any], side: str, text: Any) -> tuple[str, str]:
    learnt = [int(label) for label in row[f"{side}_labels"] if label >= 0]
    return text(row[f"{side}_input_ids"]), text(learnt)


class _Tokenizer:
    """torchtune's interface of a model's tokenizer (`ModelTokenizer`), over the tiny model's."""

    def __init__(self, work: Work) -> None:
        self.plain = work.load_tokenizer()

    def tokenize_messages(self, messages: list[Any]) -> tuple[list[int], list[bool]]:
        """Return the ids of a conversation, and which of them are masked."""
        ids: list[int] = []
        masks: list[bool] = []
        for message in messages:
            turn = {"role": message.role, "content": message.text_content}
            own = self.plain(render([turn]), add_special_tokens=False)["input_ids"]
            ids += own
            masks += [message.masked] * len(own)
        return ids, masks

    def __call__(self, sample: dict[str, Any], inference: bool = False) -> dict[str, Any]:
        ids, masks = self.tokenize_messages(sample.pop("messages"))
        return {**sample, "tokens": ids, "mask": masks}


if __name__ == "__main__":
    main(check)
