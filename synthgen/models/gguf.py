"""GGUF files as models: where the file is, what its header says for planning, and its dequantized checkpoint.

A model is a GGUF file by its `model.id`: `path/to/file.gguf`, `org/repo` with `model.gguf_file=name.gguf`, or
`org/repo:Q4_K_M`. vLLM serves it as it is where its plugin is installed and there is a GPU; else it is dequantized to
bfloat16 into synthgen's cache, once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from synthgen.errors import ConfigError
from synthgen.models.cache import find_cache, make_once
from synthgen.models.steps import Report, silent

SUFFIX = ".gguf"


def ensure_dequantized(file: Path, cache_dir: Path | None = None, report: Report = silent) -> Path:
    """Return the bfloat16 checkpoint of a local GGUF file, converted now if it is not in the cache.

    Raises:
        ConfigError: the file cannot be converted, or the cache cannot be written.
    """
    return make_once(dequantized_directory(file, cache_dir), lambda directory: convert_gguf(file, directory, report))


def dequantized_directory(file: Path, cache_dir: Path | None = None) -> Path:
    """Return where the checkpoint of `file` is, or will be; a file that changes gets another place."""
    real = file.resolve()
    state = real.stat()
    digest = hashlib.sha256(f"{real} {state.st_size} {state.st_mtime_ns} {conversion_version()}".encode()).hexdigest()
    return find_cache(cache_dir) / f"gguf-{file.stem[:80]}-{digest[:12]}"


def conversion_version() -> str:
    """Return a hash of the program that converts: a new one makes new checkpoints."""
    return hashlib.sha256((Path(__file__).parent / "gguf_convert.py").read_bytes()).hexdigest()[:12]


def convert_gguf(file: Path, target: Path, report: Report = silent) -> None:
    """Write the checkpoint of `file` to the directory `target`, in a process of its own.

    Raises:
        ConfigError: transformers cannot convert it.
    """
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("torch") is None:
        raise ConfigError(f"{file.name} needs the packages gguf and torch to be read; pip install gguf torch")
    command = [sys.executable, "-m", "synthgen.models.gguf_convert", str(file.absolute()), str(target)]
    log = target / "convert.log"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True)
        assert process.stdout is not None
        phase = "starting"
        try:
            for line in process.stdout:
                phase = line.strip()
                report(f"convert {file.name}: {phase}", 0, 0, time.monotonic() - began)
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"it ended with {status}"]
        raise ConfigError(f"{file} cannot be converted while {phase}: {said[-1][:300]}")
    log.unlink()
