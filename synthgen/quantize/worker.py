"""One quantization in llm-compressor's own environment: `python -m synthgen.quantize.worker job.json`.

Of the project nothing is imported but what lets it end with its parent: that environment has other versions of what the
project stands on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from synthgen.training.parent import follow_parent


def main(path: str) -> None:
    """Do what the job file says: `model`, `revision`, `recipe`, `conversations` (a file of JSON lines; none: null),
    `max_length`, `output`."""
    import yaml
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(job["model"], revision=job["revision"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], revision=job["revision"], dtype="auto")
    calibration = {}
    if job["conversations"] is not None:
        lines = Path(job["conversations"]).read_text(encoding="utf-8").splitlines()
        texts = [tokenizer.apply_chat_template(json.loads(line), tokenize=False) for line in lines]
        rows = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=job["max_length"])
        calibration = {
            "dataset": Dataset.from_dict(dict(rows)),
            "num_calibration_samples": len(texts),
            "max_seq_length": job["max_length"],
        }
    oneshot(model=model, tokenizer=tokenizer, recipe=yaml.safe_dump(job["recipe"], sort_keys=False), **calibration)
    model.save_pretrained(job["output"], save_compressed=True)
    tokenizer.save_pretrained(job["output"])


if __name__ == "__main__":
    follow_parent()
    main(sys.argv[1])
