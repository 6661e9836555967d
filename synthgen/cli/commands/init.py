"""`synthgen init`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthgen.cli.overrides import take_value
from synthgen.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[1] / "project"
PIECES = {
    "prompts.jsonl": "what is answered: put your own prompts here",
    "config.yaml": "all settings",
    "conf/judge/aspect/directness.yaml": "an aspect of your own: what the judge rates",
    "filter.py": "a filter of your own, in Python",
    "Makefile": "the commands: preview, plan, run, report, publish",
    "README.md": "what is what",
}


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Write a project of one's own into a new directory, and say what each file is for."""
    given, rest = take_value(overrides, "dir")
    if given is None or rest:
        but = f", but got {rest[0]!r}" if rest else ""
        raise ConfigError(f"init takes the name of a new directory{but}: synthgen init my-project")
    directory = Path(given).expanduser()
    there = [name for name in PIECES if (directory / name).exists()]
    if there or (directory.exists() and not directory.is_dir()):
        what = f"holds {', '.join(there)} already" if there else "is no directory"
        raise ConfigError(f"init: {directory} {what}, and nothing is written over; give another name")
    directory.mkdir(parents=True, exist_ok=True)
    for name in PIECES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        with open(directory / name, "xb") as file:  # a file that came meanwhile is not written over either
            file.write((PROJECT / name).read_bytes())
    width = max(len(name) for name in PIECES)
    for name, line in PIECES.items():
        print(f"  {directory / name}{' ' * (width - len(name))}  {line}")
    print(f"next: synthgen run {directory / 'config.yaml'}   (seconds, without a model)")
    return 0
