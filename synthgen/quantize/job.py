"""One quantization: a checkpoint in, a directory in compressed-tensors format out, whole or not at all.

The work is done by llm-compressor in a process and an environment of its own, in `<output_dir>.partial`, which gets the
name `output_dir` when all of it is there. A job that was killed begins anew; one that is done is not done again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthgen.config import ModelConfig
from synthgen.errors import ConfigError, RunFailedError, SynthgenError
from synthgen.models.architecture import Architecture
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.dequantize import dequantize_checkpoint
from synthgen.models.locate import BUILTIN_IDS, ensure_builtin
from synthgen.models.packages import make_environment
from synthgen.quantize.calibration import read_conversations
from synthgen.quantize.environment import PACKAGES, ensure_environment
from synthgen.quantize.recipes import list_inputs, make_recipe
from synthgen.quantize.settings import QuantizeConfig, compose_quantize_config
from synthgen.records import canonical_json, stable_hex
from synthgen.training.child import run_child

logger = logging.getLogger(__name__)

RECORD = "synthgen_quantize.json"
"""In the checkpoint: what it was made of."""
COMPRESSED = "compressed-tensors"
"""What can be dequantized first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on Hydra overrides, and return its exit status: 0, 1 where it failed, 2 for what cannot work."""
    overrides = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        config = compose_quantize_config(overrides)
        output = quantize(config)
    except SynthgenError as error:
        print(f"quantize: {error}", file=sys.stderr)
        return error.exit_code
    logger.info("the model is in %s; serve it with model=%s", output, output)
    return 0


def quantize(config: QuantizeConfig) -> Path:
    """Quantize as `config` says, and return the directory of the checkpoint.

    Raises:
        ConfigError: it cannot work, or `output_dir` holds something else. RunFailedError: llm-compressor failed.
    """
    output = Path(config.output_dir)
    settings = json.loads(json.dumps({**asdict(config), "packages": PACKAGES}))
    conversations = read_conversations(config) if config.scheme.calibrated else None
    made_of = {**settings, "calibration": stable_hex(conversations), "output_dir": None}
    if not _is_there(output, made_of):
        with _held(output) as partial:
            if not _is_there(output, made_of):  # another job has made it meanwhile
                _make(config, output, partial, conversations, made_of)
    return output


def _make(
    config: QuantizeConfig, output: Path, partial: Path, conversations: Sequence[Any] | None, made_of: Mapping[str, Any]
) -> None:
    """Make the checkpoint in the empty directory `partial`, and give it its name."""
    model, revision = _locate(config.model), config.model_revision
    arch = _resolve(config, model)
    recipe = make_recipe(config, list_inputs(arch))
    packages = ensure_environment()
    lines = None
    if conversations is not None:
        lines = partial / "conversations.jsonl"
        lines.write_text("".join(f"{canonical_json(one)}\n" for one in conversations), encoding="utf-8")
    if arch.quantization.method:
        dequantize_checkpoint(model, partial / "dequantized")
        model, revision = str((partial / "dequantized").resolve()), None
    job: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "recipe": recipe,
        "conversations": lines and str(lines.resolve()),
        "max_length": config.max_length,
        "output": str((partial / "checkpoint").resolve()),
    }
    (partial / "job.json").write_text(json.dumps(job), encoding="utf-8")
    began = time.monotonic()
    _run(partial, packages)
    for path in (partial / "checkpoint").iterdir():
        path.chmod(0o644)  # safetensors gives its files to their owner alone, and a checkpoint is for a cluster's nodes
    record = {**made_of, "recipe": recipe, "seconds": round(time.monotonic() - began)}
    (partial / "checkpoint" / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if output.exists():
        output.rmdir()  # it is empty: `_is_there` has looked
    (partial / "checkpoint").rename(output)


@contextlib.contextmanager
def _held(output: Path) -> Iterator[Path]:
    """Give an empty `<output>.partial` that no other job works in, on this node or (NFS) on another.

    The lock is on a file of its own, which stays: the kernel lets it go when its holder dies.

    Raises:
        ConfigError: another job works in it.
    """
    import fcntl

    partial = output.with_name(output.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with open(output.with_name(f".{output.name}.lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"output_dir={output} is being made by another job; wait for it, or name another"
            ) from None
        except OSError as error:
            logger.warning("%s has no locks (%s): start one job at a time on it", output.parent, error)
        partial.mkdir(exist_ok=True)  # whoever held it may have removed it
        for entry in partial.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        try:
            yield partial
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            with contextlib.suppress(OSError):
                partial.rmdir()  # where nothing was made in it


def _is_there(output: Path, made_of: Mapping[str, Any]) -> bool:
    """Return whether `output` holds this checkpoint. Raises ConfigError where it holds anything else."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
        if {**record, "recipe": None, "seconds": None} == {**made_of, "recipe": None, "seconds": None}:
            logger.info("%s is done already", output)
            return True
    except (OSError, ValueError, TypeError):
        pass
    raise ConfigError(f"output_dir={output} holds something else already; name another, or remove it")


def _locate(model: str) -> str:
    if model in BUILTIN_IDS:
        return str(ensure_builtin(model))
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def _resolve(config: QuantizeConfig, model: str) -> Architecture:
    """Return what the checkpoint is. Raises ConfigError: there is none, or it is quantized in another format."""
    found = ModelConfig(name=config.model, id=model, revision=config.model_revision)
    arch = resolve_architecture(found)
    if arch.quantization.method not in ("", COMPRESSED):
        raise ConfigError(
            f"model={config.model} is quantized already ({arch.quantization.method}); name the checkpoint that it was "
            "made of"
        )
    return arch


def _run(partial: Path, packages: Path) -> None:
    log, told = partial / "quantize.log", [""]

    def look() -> None:
        state = describe_state(_tail(log))
        if state != told[-1]:
            logger.info("%s", state)
            told.append(state)

    command = [sys.executable, "-m", "synthgen.quantize.worker", str(partial / "job.json")]
    ended = run_child(command, log, look, make_environment(packages))
    if ended is not None:
        raise RunFailedError(f"llm-compressor failed ({ended[0]}): {ended[1]}; see {log}")


def describe_state(said: str) -> str:
    """Return what llm-compressor is at, from the end of what it said: the layer, of how many."""
    layers = re.findall(r"\((\d+)/(\d+)\): (\w+)", said)
    if "Writing model" in said:
        return "writing the checkpoint"
    if layers:
        layer, total, doing = layers[-1]
        return f"layer {layer} of {total}: {doing.lower()}"
    return "loading the model"


def _tail(log: Path, size: int = 4096) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - size))
        return stream.read().decode("utf-8", "replace")
