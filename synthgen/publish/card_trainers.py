"""Which trainer takes which config of a data set, for the card: a row each, of the configs that it has.

docs/training.md has whole blocks to paste; `make trainers` reads the configs with the trainers' own loaders.
"""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.publish.markup import SafeMarkdown, inline

_ROWS = (
    ("default", "TRL", "DPO, reward", "dataset_name: {repo}"),
    ("default", "axolotl", "DPO", "path: {repo}, name: default, type: chat_template.default, field_messages: prompt"),
    ("default", "OpenRLHF", "DPO, reward", "--data.dataset {repo} --data.prompt_key prompt --data.apply_chat_template"),
    ("kto", "TRL", "KTO", "dataset_name: {repo}, dataset_config: kto"),
    ("kto_conversations", "axolotl", "KTO", "path: {repo}, name: kto_conversations, type: llama3.argilla_chat"),
    ("conversations", "torchtune", "DPO", "preference_dataset, source: {repo}, name: conversations"),
    ("conversations", "open-instruct", "DPO", "the directory conversations/ of a download"),
    ("conversations", "alignment-handbook 0.3", "DPO", "dataset_mixer: {repo}, dataset_configs: conversations"),
    ("ranked", "NeMo-RL", "DPO, reward", "dataset_name: PreferenceDataset, data_path: {repo}, subset: ranked"),
    ("text", "verl", "reward", "RMDataset, the files text/*.parquet of a download"),
    ("sft", "TRL", "SFT", "dataset_name: {repo}, dataset_config: sft"),
    ("sft", "axolotl", "SFT", "path: {repo}, name: sft, type: chat_template"),
    ("sft", "NeMo-RL", "SFT", "dataset_name: ResponseDataset, data_path: {repo}, subset: sft"),
    ("sft", "verl", "SFT", "the files sft/*.parquet of a download"),
    (
        "sharegpt_sft",
        "torchtune",
        "SFT",
        "chat_dataset, source: {repo}, name: sharegpt_sft, conversation_column: conversations, "
        "conversation_style: sharegpt",
    ),
)
_LLAMAFACTORY = {"sharegpt": ("DPO", "pairs"), "kto_conversations": ("KTO", "kto"), "sharegpt_sft": ("SFT", "sft")}
"""Read by way of `dataset_info.json`, which comes with `sharegpt`."""


def list_trainers(configs: Sequence[str], repo: str, *, on_hub: bool) -> list[tuple[str, str, str, SafeMarkdown]]:
    """Return config, trainer, method and settings for each trainer that takes one of `configs`.

    Args:
        repo: the data set's id or directory, or what stands for it.
        on_hub: whether it is an id.
    """
    directory = f"REMOTE:{repo}" if on_hub else repo
    rows = [
        (config, trainer, method, inline(settings.format(repo=repo), 500))
        for config, trainer, method, settings in _ROWS
        if config in configs
    ]
    if "sharegpt" in configs:
        rows += [
            (config, "LLaMA-Factory", method, inline(f"dataset_dir: {directory}, dataset: {name}", 500))
            for config, (method, name) in _LLAMAFACTORY.items()
            if config in configs
        ]
    order = {config: number for number, config in enumerate(configs)}
    return sorted(rows, key=lambda row: order[row[0]])
