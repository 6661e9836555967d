"""The wheel in an empty environment, far from the checkout: it holds all it needs, and its dependencies suffice."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from synthgen import DISTRIBUTION, __version__

ROOT = Path(__file__).parent.parent
STEM = f"{DISTRIBUTION.replace('-', '_')}-{__version__}"

pytestmark = pytest.mark.slow


def needed_distributions(requirements: Sequence[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yield what the requirements need, and what that needs, as the lock installed it; extras only where asked for."""
    seen: set[tuple[str, str]] = set()
    stack = [Requirement(text) for text in requirements]
    given: set[str] = set()
    while stack:
        one = stack.pop()
        for extra in ("", *one.extras):
            name = canonicalize_name(one.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            distribution = importlib.metadata.distribution(name)
            if name not in given:
                given.add(name)
                yield distribution
            for text in distribution.requires or []:
                wanted = Requirement(text)
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    stack.append(wanted)


def link_distribution(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Put the files of an installed package into another environment's site-packages, as links where that can be."""
    here = Path(str(distribution.locate_file("")))
    for file in distribution.files or []:
        source = Path(str(distribution.locate_file(file)))
        if ".." in file.parts or not source.is_relative_to(here) or not source.is_file():
            continue  # console scripts
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.symlink(source, target)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, as `make wheel` does it, in a directory with the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def elsewhere(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, the packages that it names (no extra: no vLLM, no torch, no TRL), and no more."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "env", with_pip=False)
    [site] = home.glob("env/lib/python3*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(home / "env/bin/python"), "install", "--no-deps"]
    command = [*install, "--no-index", "--quiet", str(built / f"{STEM}-py3-none-any.whl")]
    subprocess.run(command, check=True, capture_output=True)
    [own] = importlib.metadata.distributions(path=[str(site)])
    base = [text for text in own.requires or [] if Requirement(text).marker is None]
    for distribution in needed_distributions(base):
        link_distribution(distribution, site)
    assert not (site / "torch").exists()
    assert not (site / "vllm").exists()
    return home


def run_there(home: Path, *arguments: str) -> str:
    """Run the environment's own `synthgen` in an empty directory and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    done = subprocess.run(
        [home / "env/bin/synthgen", *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_sdist_and_wheel_hold_the_same_code(built: Path) -> None:
    with zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as wheel:
        files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "synthgen", "conf", "pipelines"], cwd=ROOT, capture_output=True, text=True
    )
    wanted = {
        name if name.startswith("synthgen/") else f"synthgen/{name}" for name in tracked.stdout.split("\n") if name
    }
    assert files == wanted, "git add what is new; hatchling packs what lies there"
    with tarfile.open(built / f"{STEM}.tar.gz") as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    assert {name for name in tracked.stdout.split("\n") if name} <= packed


def test_wheel_answers_help_and_version(elsewhere: Path) -> None:
    assert "usage: synthgen <command>" in run_there(elsewhere, "--help")
    assert run_there(elsewhere, "--version") == f"synthgen {__version__}\n"


def test_wheel_lists_models(elsewhere: Path) -> None:
    assert "llama-3.3-70b-w8a8" in run_there(elsewhere, "models")


def test_wheel_plans_a_large_run(elsewhere: Path) -> None:
    plan = run_there(elsewhere, "plan", "experiment=llama31_ultrafeedback", "cluster=8xh100-80")
    assert "GPU-hours" in plan


def test_wheel_runs_echo_to_a_data_set(elsewhere: Path) -> None:
    run_there(elsewhere, "run", "experiment=echo", "prompts.limit=6", "run.dir=run")
    report = json.loads((elsewhere / "run/report.json").read_text())
    assert report["complete"]
    assert report["prompts"]["kept"] == 6


def test_wheel_says_how_to_add_what_it_lacks(built: Path, elsewhere: Path) -> None:
    """The mend names the wheel's own file: the name alone may be another project's on the configured index."""
    program = "from synthgen.errors import install_command; print(install_command('gpu'))"
    done = subprocess.run([elsewhere / "env/bin/python", "-c", program], cwd=elsewhere, capture_output=True, text=True)
    assert done.stdout == f"pip install '{built}/{STEM}-py3-none-any.whl[gpu]'\n"
