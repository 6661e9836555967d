"""The Dockerfile: what it copies exists, what it pins agrees with the project, and nothing runs as root."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FINAL = ("cpu", "gpu")


@dataclass
class Stage:
    """One build stage: its base and its instructions, `(keyword, arguments)` in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def arguments_of(self, keyword: str) -> list[str]:
        return [arguments for word, arguments in self.instructions if word == keyword]


def read_stages() -> dict[str, Stage]:
    """Return the stages of the Dockerfile by name; their bases by the defaults of the arguments before them."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    defaults: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        keyword, _, arguments = line.partition(" ")
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base)
            current = stages[name] = Stage(name, base)
        elif keyword == "ARG" and current is None:
            argument, _, default = arguments.partition("=")
            defaults[argument] = default
        else:
            assert current is not None, f"{keyword} before FROM"
            current.instructions.append((keyword, arguments.strip()))
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """Return a stage and the stages it is made from, the nearest first."""
    found = [stages[name]]
    while found[-1].base in stages:
        found.append(stages[found[-1].base])
    return found


def test_dockerfile_has_a_target_for_each_kind_of_machine() -> None:
    assert set(FINAL) <= set(read_stages())


def test_dockerfile_pins_its_bases() -> None:
    stages = read_stages()
    outside = {stage.base for stage in stages.values() if stage.base not in stages}
    for base in outside:
        assert re.search(r":\d+\.\d+\.\d+-|@sha256:", base), f"{base} moves; name a full version"


def test_dockerfile_copies_only_what_exists_and_is_not_ignored() -> None:
    sent = {line[1:].strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in read_stages().values():
        for arguments in stage.arguments_of("COPY"):
            if arguments.startswith("--from="):
                continue
            *sources, _ = arguments.split()
            for source in sources:
                assert (ROOT / source).exists(), f"COPY {source}: there is no such file"
                assert source.split("/")[0] in sent, f"COPY {source}: .dockerignore leaves it out"


def test_dockerfile_copies_from_stages_that_exist() -> None:
    stages = read_stages()
    for stage in stages.values():
        for arguments in stage.arguments_of("COPY"):
            source = re.match(r"--from=(\S+)", arguments)
            assert source is None or source[1] in stages


@pytest.mark.parametrize("target", FINAL)
def test_dockerfile_runs_as_a_user_without_privileges(target: str) -> None:
    users = [user for stage in lineage(read_stages(), target) for user in reversed(stage.arguments_of("USER"))]
    assert users, f"{target} runs as root"
    assert users[0].split(":")[0] not in {"root", "0"}


@pytest.mark.parametrize("target", FINAL)
def test_dockerfile_labels_the_version_of_the_project(target: str) -> None:
    labels = " ".join(read_stages()[target].arguments_of("LABEL"))
    assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in labels
    assert f'org.opencontainers.image.licenses="{PROJECT["license"]}"' in labels


def test_dockerfile_uses_the_python_of_the_locks() -> None:
    stages = read_stages()
    minor = re.match(r"python:(3\.\d+)\.", stages["base"].base)
    assert minor is not None
    assert minor[1] == "3.11"
    home = re.search(r"CUDA_HOME=(\S+)", " ".join(stages["gpu"].arguments_of("ENV")))
    assert home is not None
    assert f"/python{minor[1]}/" in home[1]


@pytest.mark.parametrize("target", FINAL)
def test_dockerfile_installs_the_lock_of_its_target(target: str) -> None:
    commands = " ".join(read_stages()[f"build-{target}"].arguments_of("RUN"))
    assert f"--no-deps -r requirements/{target}.lock" in commands
    assert "dev.lock" not in commands


def test_dockerfile_phones_nobody() -> None:
    environment = " ".join(read_stages()["base"].arguments_of("ENV"))
    for setting in ("RAY_USAGE_STATS_ENABLED=0", "VLLM_NO_USAGE_STATS=1", "HF_HUB_DISABLE_TELEMETRY=1"):
        assert setting in environment


def test_dockerfile_brings_what_kuberay_calls() -> None:
    commands = " ".join(read_stages()["base"].arguments_of("RUN"))
    assert re.search(r"\bwget\b", commands), "KubeRay's probes call wget"
