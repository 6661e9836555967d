"""`dataset_info.json`: what LLaMA-Factory is told of a data set, so that its configs are named in one word.

In: the `configs` of the card's YAML header. Out: the file's bytes. From a run directory its entries load the directory
that the file is in; from the Hub they name the repository, so `publish` makes the file anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DATASET_INFO = "dataset_info.json"
"""Path within the data set; LLaMA-Factory looks for this name (`DATA_CONFIG`)."""

_MESSAGES = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
_SHAREGPT = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}

ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "sharegpt": (
        "pairs",
        {
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
            "tags": _SHAREGPT,
        },
    ),
    "kto_conversations": ("kto", {"columns": {"messages": "completion", "kto_tag": "label"}, "tags": _MESSAGES}),
    "sharegpt_sft": ("sft", {"columns": {"messages": "conversations"}, "tags": _SHAREGPT}),
}
"""Config → its name in LLaMA-Factory, and how its columns are read there. The test split's name ends in `_test`."""


def make_dataset_info(dataset: Mapping[str, Any], repo_id: str | None = None) -> bytes:
    """Return the file's bytes.

    Args:
        dataset: of it `configs`, as `dataset_configs` makes them.
        repo_id: where the data set is on the Hub; None: in the directory that the file is in.
    """
    # With `script_url` LLaMA-Factory calls load_dataset(<dataset_dir>/<script_url>, <subset>, split=<split>), which
    # keeps to the card's splits; a directory as `file_name` would take the test split's files for training too.
    where = {"hf_hub_url": repo_id} if repo_id else {"script_url": "."}
    entries: dict[str, Any] = {}
    for config in dataset.get("configs") or []:
        if config["config_name"] not in ENTRIES:
            continue
        name, how = ENTRIES[config["config_name"]]
        for file in config["data_files"]:
            split = file["split"]
            entries[name if split == "train" else f"{name}_{split}"] = {
                **where,
                "subset": config["config_name"],
                "split": split,
                "formatting": "sharegpt",
                **how,
            }
    return (json.dumps(entries, indent=2) + "\n").encode()
