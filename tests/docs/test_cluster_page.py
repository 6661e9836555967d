"""docs/cluster.md names scripts, keys and values that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from synthgen.config.compose import compose_config

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def overrides_of(line: str) -> list[str]:
    """Return the overrides in a command line, without its comment and without the options of other programs."""
    words = shlex.split(line, comments=True)
    return [word for word in words if re.match(r"[a-z][\w./@]*=", word)]


@pytest.mark.parametrize("line", [line for line in LINES if "experiment=" in line])
def test_cluster_page_commands_compose(line: str) -> None:
    config = compose_config(overrides_of(line))
    assert "://" in config.run.dir or config.run.dir.startswith(("/", "$PWD/"))


def test_cluster_page_names_files_that_exist() -> None:
    named = set(re.findall(r"\bjobs/[\w/]+\.\w+|\brequirements/\w+\.lock", PAGE))
    assert {"jobs/submit.sh", "jobs/slurm.sh", "jobs/kubernetes/base/kuberay.yaml"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_cluster_page_names_targets_of_the_dockerfile() -> None:
    targets = set(re.findall(r"--target (\w+)", PAGE))
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert targets == {"cpu", "gpu"}
    assert all(f" AS {target}\n" in dockerfile for target in targets)
