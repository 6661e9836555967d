"""README.md: its commands are possible, its forecast is what `plan` says; every link of the docs leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from synthgen.config.compose import compose_config
from synthgen.planning import format_plan, make_plan
from synthgen.runtime.plan_ledger import read_ledger

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    command.partition("    #")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if command.strip()
]


def list_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        anchor, twin = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-"), 0
        while (name := f"{anchor}-{twin}" if twin else anchor) in found:
            twin += 1
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor:
            assert anchor in list_anchors(other), target


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {Path(target.partition("#")[0]).name for target in re.findall(r"\]\((docs/[^)]+)\)", README)}
    assert linked >= {page.name for page in (ROOT / "docs").glob("*.md")}


def test_the_first_command_is_on_the_first_screen() -> None:
    assert README.splitlines().index("make demo") < 20


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    words = shlex.split(command.partition("&&")[0])
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [one for one in COMMANDS if re.match(r"synthgen (run|plan) ", one)])
def test_commands_can_be_planned(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hello?"}\n')
    monkeypatch.chdir(tmp_path)
    config = compose_config(shlex.split(command)[2:])
    make_plan(config, read_ledger(config))


def test_other_commands_name_what_is_there() -> None:
    rest = [one for one in COMMANDS if not re.match(r"make |synthgen (run|plan) ", one)]
    assert [one.split()[:2] for one in rest] == [["trl", "dpo"], ["synthgen", "publish"], ["synthgen", "prove"]]


def test_the_forecast_is_what_plan_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"Explain point {i} of the matter in some detail. " * 6 for i in range(10_000)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    monkeypatch.chdir(tmp_path)
    command = next(one for one in COMMANDS if one.startswith("synthgen plan"))
    config = compose_config(shlex.split(command)[2:])
    lines = format_plan(make_plan(config, read_ledger(config))).splitlines()
    shown = re.search(r"^```\n(stage .*?)^```", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    for line in shown[1].splitlines():
        assert line in lines
