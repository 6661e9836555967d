"""Which layers a list of names means: names, parts of names, `re:` patterns and `*`, as quantization configs have.

A checkpoint's lists are written for its own names (`model.language_model.layers.0.mlp`), a table has the planner's:
both are compared without what only says where the language model hangs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class _Compiled:
    """Names by their parts, and the patterns, which see every spelling of a name."""

    parts: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]


def matches_any(patterns: Sequence[str], name: str) -> bool:
    """Whether one of `patterns` means the layer `name`, or something that it is a part of."""
    return bool(patterns) and _matches(tuple(patterns), name)


@lru_cache(maxsize=65536)
def _matches(patterns: tuple[str, ...], name: str) -> bool:
    compiled = _compile(patterns)
    names = _list_aliases(_plain(name))
    if compiled.parts and any(_has_part(compiled.parts, alias.split(".")) for alias in names):
        return True
    spellings = [head + alias for alias in names for head in _HEADS] + [name]
    return any(pattern.match(spelling) for pattern in compiled.patterns for spelling in spellings)


_HEADS = ("", "model.", "model.language_model.", "language_model.model.", "backbone.")


def _has_part(parts: frozenset[str], pieces: Sequence[str]) -> bool:
    """Whether consecutive pieces of a name are in `parts`."""
    ends = range(1, len(pieces) + 1)
    return any(".".join(pieces[start:end]) in parts for start in range(len(pieces)) for end in ends if end > start)


def _plain(name: str) -> str:
    short = name.replace("language_model.", "").removeprefix("model.").replace("backbone.", "")
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "#", short) if short.startswith(("visual", "vision", "audio")) else short


def _list_aliases(plain: str) -> list[str]:
    """Return the names that a checkpoint may have for a tensor: experts one by one, and halves of a fused matrix."""
    names = [plain]
    if "gate_up_proj" in plain:
        names += [plain.replace("gate_up_proj", half) for half in ("gate_proj", "w1")]
    elif plain.endswith("down_proj"):
        names.append(plain.removesuffix("down_proj") + "w2")
    if ".experts." in plain:
        names += [name.replace(".experts.", ".experts.0.") for name in names]
        names += [name.replace(".mlp.", ".block_sparse_moe.") for name in names if ".mlp." in name]
    return names


@lru_cache(maxsize=256)
def _compile(patterns: tuple[str, ...]) -> _Compiled:
    parts, found = set(), []
    for pattern in patterns:
        if pattern.startswith("re:"):
            found.append(re.compile(pattern[3:]))
        elif "*" in pattern:
            found.append(re.compile(translate(pattern)))
        else:
            parts.add(_plain(pattern))
    return _Compiled(frozenset(parts), tuple(found))
