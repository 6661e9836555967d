"""What a key that does not exist was meant to be: by its name, by what it means elsewhere, by where it was written."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from synthgen.config.schema import Config

# What other tools, and people, call a key → where it is here. Keys of generators are those of `main`.
MEANT = {
    "aspect": "judge.aspects",
    "batch_size": "generators.main.model.max_num_seqs",
    "best_of": "generators.main.n",
    "beta": "args.beta, of jobs/train_dpo.py",
    "concurrency": "generators.main.model.max_num_seqs",
    "context_length": "generators.main.model.max_model_len",
    "data": "prompts.path",
    "data_path": "prompts.path",
    "dataset": "prompts.path",
    "dataset_name": "prompts.path",
    "directory": "run.dir",
    "dp": "generators.main.model.replicas",
    "file": "prompts.path",
    "gpus": "cluster=<preset>, such as cluster=8xh100-80",
    "gpu_ids": "CUDA_VISIBLE_DEVICES, in the environment",
    "hub_id": "publish.repo_id",
    "input": "prompts.path",
    "input_file": "prompts.path",
    "judge_model": "model@judge.model",
    "max_new_tokens": "generators.main.sampling.max_tokens",
    "max_samples": "prompts.limit",
    "max_seq_len": "generators.main.model.max_model_len",
    "model_id": "generators.main.model.id",
    "model_name": "model",
    "model_name_or_path": "model",
    "num_completions": "generators.main.n",
    "num_generations": "generators.main.n",
    "num_gpus": "cluster=<preset>, such as cluster=8xh100-80",
    "num_prompts": "prompts.limit",
    "num_return_sequences": "generators.main.n",
    "num_samples": "generators.main.n",
    "out": "run.dir",
    "output": "run.dir",
    "output_dir": "run.dir",
    "output_path": "run.dir",
    "pp": "generators.main.model.pipeline_parallel_size",
    "prompt_file": "prompts.path",
    "push_to_hub": "publish.repo_id, of synthgen publish",
    "repo": "publish.repo_id",
    "repository": "publish.repo_id",
    "stop_sequences": "generators.main.sampling.stop",
    "system": "generators.main.system_prompt",
    "system_message": "generators.main.system_prompt",
    "temp": "generators.main.sampling.temperature",
    "template": "generators.main.model.chat_template",
    "tp": "generators.main.model.tensor_parallel_size",
    "tp_size": "generators.main.model.tensor_parallel_size",
    "workers": "generators.main.model.replicas",
}
_MOST = 2
_ORDER = ("generators", "prompts", "run", "judge", "pairs", "export", "cluster", "publish", "scorers", "task")


def suggest_keys(full_key: str) -> list[str]:
    """Return what `full_key` may have been meant to be, the likeliest first; at most two.

    A name that stands somewhere below where it was looked for comes first (`generators.main.temperature`), then one
    that is spelt nearly so there, then what other tools call so, then the same name anywhere.
    """
    place, _, name = full_key.rpartition(".")
    keys = [_like(key, full_key) for key in list_keys()]
    below = [key for key in keys if key.startswith(f"{place}.")] if place else keys
    found = _called(name, below) or _called(_root(name), below)
    if not found and name in MEANT:
        found = [_move(MEANT[name], full_key)]
    if not found:
        siblings = {key.rpartition(".")[2]: key for key in below if key.rpartition(".")[0] == place}
        found = [
            siblings[near] for near in difflib.get_close_matches(name, siblings, n=_MOST, cutoff=0.6 if place else 0.75)
        ]
    if not found:
        near = difflib.get_close_matches(name, {key.rpartition(".")[2] for key in below}, n=1, cutoff=0.75)
        found = _called(near[0], below) if near else []
    found = found or _called(name, keys)
    if not found:
        near = difflib.get_close_matches(name, {key.rpartition(".")[2] for key in keys}, n=1, cutoff=0.8)
        found = _called(near[0], keys) if near else []
    return sorted(found, key=lambda key: (_rank(key), key.count("."), keys.index(key) if key in keys else 0))[:_MOST]


@cache
def list_keys() -> tuple[str, ...]:
    """Return every dotted key of the schema, in its order; entries of mappings by name stand for all under `main`."""
    return tuple(_iterate(Config, ""))


def _iterate(hint: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(hint)
    for field in dataclasses.fields(hint):
        name, inner = f"{prefix}{field.name}", hints[field.name]
        yield name
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from _iterate(inner, f"{name}.")
        elif typing.get_origin(inner) is dict and dataclasses.is_dataclass(typing.get_args(inner)[1]):
            yield from _iterate(typing.get_args(inner)[1], f"{name}.main.")


def _like(key: str, typed: str) -> str:
    """Return a key of the entry `main` as one of the entry that was typed."""
    entry, parts = key.split("."), typed.split(".")
    for place, part in enumerate(entry):
        if part == "main" and parts[:place] == entry[:place] and len(parts) > place + 1:
            entry[place] = parts[place]
    return ".".join(entry)


def _move(key: str, typed: str) -> str:
    """Return a key of generators as one of the judge or the task, where those were typed."""
    for place in ("judge", "task"):
        if typed.startswith(f"{place}."):
            return key.replace("generators.main.model.", f"{place}.model.").replace("generators.main.", f"{place}.")
    return _like(key, typed)


def _called(name: str, keys: list[str]) -> list[str]:
    return [key for key in keys if key.rpartition(".")[2] == name]


def _rank(key: str) -> int:
    """Return how seldom people mean a part of the configuration: generators first, a task last."""
    part = key.partition(".")[0]
    return _ORDER.index(part) if part in _ORDER else len(_ORDER) // 2


def _root(name: str) -> str:
    return name[:-1] if name.endswith("s") else f"{name}s"
