"""In which order the files of a source are read, and which of them do not belong to it."""

from __future__ import annotations

import re
from pathlib import Path

DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
"""Files of the `datasets` library that say what other files hold."""


def natural_key(path: str | Path) -> list[tuple[int, int, str]]:
    """Return what sorts `part-2` before `part-10`: numbers by value, folder by folder."""
    text = path if isinstance(path, str) else path.as_posix()
    parts = re.findall(r"\d+|[^\d/]+|/", text)
    order = [
        (0, 0, "") if part == "/" else (1, int(part), part) if part.isdecimal() else (2, 0, part) for part in parts
    ]
    return [*order, (-1, 0, text)]


def is_hidden(relative: Path) -> bool:
    """Whether a name on the way starts with a dot or an underscore (checkpoints, caches, Spark's `_SUCCESS`)."""
    return any(part.startswith((".", "_")) for part in relative.parts)
