"""alignment-handbook 0.3: `get_datasets` and `apply_chat_template`, of its file `src/alignment/data.py` alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from trainers.expected import SIDES, Result, Work, compare, main, render, stub


def check(work: Work) -> list[Result]:
    """Load the pairs and the SFT rows as the handbook's `run_dpo.py` and `run_sft.py` do."""
    tokenizer = work.load_tokenizer()
    data = _load_module()

    def load(config: str, columns: list[str], task: str) -> Any:
        rows = data.get_datasets({str(work.dataset): 1.0}, splits=["train"], configs=[config], columns_to_keep=columns)
        settings = {"tokenizer": tokenizer, "task": task, "auto_insert_empty_system_msg": False}
        return rows["train"].map(data.apply_chat_template, fn_kwargs=settings)

    dpo = load("conversations", ["chosen", "rejected"], "dpo")
    sft = load("sft", ["messages"], "sft")
    return [
        compare(
            "DPO",
            "conversations",
            "get_datasets, apply_chat_template",
            [[render(row["prompt"]), *(render(row[side]) for side in SIDES)] for row in work.rows("default")],
            [[row["text_prompt"], row["text_chosen"], row["text_rejected"]] for row in dpo],
        ),
        compare(
            "SFT",
            "sft",
            "get_datasets, apply_chat_template",
            [render(row["messages"]) for row in work.rows("sft")],
            [row["text"] for row in sft],
        ),
    ]


def _load_module() -> Any:
    """`alignment.data` without its package, whose other files need the TRL of its day."""
    stub("alignment", "alignment.configs")
    path = next(Path(entry) for entry in sys.path if (Path(entry) / "src/alignment/data.py").is_file())
    spec = importlib.util.spec_from_file_location("alignment.data", path / "src/alignment/data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(check)
