"""jobs/sky.yaml: its keys are those of a SkyPilot task, its shell is sound, and what it runs composes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen.config.compose import compose_config

ROOT = Path(__file__).parent.parent.parent
KEYS = {"name", "num_nodes", "resources", "workdir", "envs", "secrets", "setup", "run"}
"""Of a SkyPilot task, those that it has (the parser of SkyPilot 0.14.1 took the file)."""


@pytest.fixture(scope="module")
def task() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "jobs/sky.yaml").read_text(encoding="utf-8")))


def test_sky_has_the_keys_of_a_task(task: dict[str, Any]) -> None:
    assert set(task) == KEYS
    assert task["secrets"]["RAY_AUTH_TOKEN"] is None, "asked for, and never in the file"
    assert "ray stop" not in re.sub("`.*?`", "", task["run"]), "SkyPilot's own Ray runs on the node"


def test_sky_runs_what_composes(task: dict[str, Any]) -> None:
    config = compose_config([*shlex.split(task["envs"]["RUN"]), "cluster=auto", "run.dir=s3://bucket/first"])
    assert config.cluster.address == "auto"
    assert re.search(r"synthgen run \$RUN cluster=auto run\.dir=\"\$BUCKET\"$", task["run"].strip())


@pytest.mark.parametrize("part", ["setup", "run"])
def test_sky_shell_is_sound(task: dict[str, Any], part: str) -> None:
    script = "#!/usr/bin/env bash\n" + task[part]
    command = [str(Path(sys.executable).parent / "shellcheck"), "--shell=bash", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
