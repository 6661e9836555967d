"""Which checkpoint of a training is gone on with: the last that is whole. A killed process may leave a torn one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

STATE = "trainer_state.json"
"""What transformers writes last into a checkpoint."""


def find_checkpoint(output_dir: str) -> Path | None:
    """Return the directory of the last whole checkpoint in `output_dir`, None without any; torn ones are removed."""
    found: dict[int, Path] = {}
    for path in Path(output_dir).glob("checkpoint-*"):
        number = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if number is None:
            continue
        if _is_whole(path):
            found[int(number[1])] = path
        else:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def _is_whole(path: Path) -> bool:
    try:
        return isinstance(json.loads((path / STATE).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
