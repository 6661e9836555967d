"""CONTRIBUTING.md names files, classes and registries that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_names_paths_that_exist() -> None:
    named = set(re.findall(r"`((?:synthgen|conf|pipelines|tests|docs)/[\w./-]*[\w/])`", PAGE))
    assert len(named) > 10
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_contributing_names_classes_and_registries_that_exist() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("synthgen/**/*.py"))
    for name in (
        "LLMStage",
        "EngineType",
        "ENGINES",
        "AspectConfig",
        "READERS",
        "FORMATS",
        "AnswerFormat",
        "POLICIES",
        "SCORERS",
        "COMMANDS",
        "EngineDeadError",
    ):
        assert f"`{name}`" in PAGE
        assert re.search(rf"^(class {name}\b|{name}\b.*=)", sources, re.MULTILINE), f"{name} is not there"


def test_contributing_names_make_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make (\w+)", PAGE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
