"""What is published calls a model by a name that means something elsewhere: never a local path, never `hub`."""

from __future__ import annotations

import os
import re

from synthgen.config.schema import ModelConfig

GENERIC = frozenset({"", "hub", "openai_endpoint"})
"""Catalog entries that stand for any model: their names say nothing."""
_SNAPSHOT = re.compile(r"models--(.+?)--([^/\\]+)[/\\]snapshots[/\\][^/\\]+")


def name_public(model: ModelConfig) -> str:
    """Return the name of a model in rows and reports: its id, or what stands for one that lies on a disk.

    A directory of the Hub's cache has the Hub's id, another one its catalog name or the last part of its path.
    """
    if not _is_local(model.id):
        return public_location(model.id)
    snapshot = _SNAPSHOT.search(model.id)
    if snapshot:
        return f"{snapshot[1]}/{snapshot[2]}"
    return public_location(model.name if _has_name(model) else os.path.abspath(os.path.expanduser(model.id)))


def call_model(model: ModelConfig) -> str:
    """Return what sentences call a model: its catalog name, else its public name."""
    return model.name if _has_name(model) else name_public(model)


def public_location(path: str) -> str:
    """Return a file, model or data set name without what is private: credentials, queries, local directories."""
    url = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#]*@)?([^?#]*)", path)
    if url:
        return f"{url[1]}://{url[2]}"
    if path.startswith(("/", "~", ".", "\\")) or re.match(r"[A-Za-z]:[\\/]", path):
        return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return path


def _has_name(model: ModelConfig) -> bool:
    return model.name not in GENERIC and not re.search(r"[/\\]", model.name)


def _is_local(model_id: str) -> bool:
    if "://" in model_id:
        return False
    return public_location(model_id) != model_id or (bool(model_id) and os.path.exists(model_id))
