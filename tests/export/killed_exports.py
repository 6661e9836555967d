"""Kills a start that exports again at every change of a file, and says what was found after each: a program of its own.

    python killed_exports.py <root> <template> <stride> <override>…
    python killed_exports.py <root> <template> <stride> units

`<root>/<template>` is a finished run; `root` is a directory or an `s3://` URL. For k = 1, 1 + stride, … it is copied, a
start with the overrides (or the export of `export_later` alone) is killed (SIGKILL) at its k-th change, and one line of
JSON tells what is there then, what `publish` says of it, and what the same start leaves when it is let through. It ends
with the first k that a start survives.

Each start is a fork of this process, which has imported all that a start needs and used none of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets  # noqa: F401  (imported here, so that no fork has to)
import huggingface_hub  # noqa: F401
import jinja2  # noqa: F401
import matplotlib.figure  # noqa: F401
import pyarrow.parquet  # noqa: F401
import ray  # noqa: F401

from synthgen.cli import run_command
from synthgen.config import Config, ExportConfig
from synthgen.config.compose import compose_config
from synthgen.config.saved import dump_config
from synthgen.export.swap import commit_export, stage_export
from synthgen.ledger.object_store import ObjectStorage
from synthgen.ledger.storage import open_storage
from synthgen.observe.status import read_status  # noqa: F401
from synthgen.runtime.run import run
from tests.exported_runs import export_units

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main(root: str, template: str, stride: int, overrides: list[str]) -> None:
    """Print a line per k."""
    k, survived = 1 - stride, False
    while not survived:
        k += stride
        url = f"{root}/killed-{k}"
        copy_run(f"{root}/{template}", url)
        status = in_child(lambda url=url, k=k: start(url, overrides, k))[0]
        survived = os.WIFEXITED(status)
        assert not survived or os.WEXITSTATUS(status) == 0
        published = in_child(lambda url=url: publish(url))[1]
        found = in_child(lambda url=url: hash_dataset(url))[1]
        assert in_child(lambda url=url: start(url, overrides, 0))[0] == 0
        then = in_child(lambda url=url: hash_dataset(url))[1]
        left_over = [str(path) for path in Path(url).glob(".tmp-export-*")]
        print(json.dumps({"k": k, "killed": not survived, "found": found, "published": published, "then": then,
                          "left_over": left_over}), flush=True)  # fmt: skip
        if "://" not in url:
            shutil.rmtree(url)


def in_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Do `work` in a fork. Return its wait status, and what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            with open(writing, "wb") as handle:
                handle.write(json.dumps(work()).encode())
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as handle:
        data = handle.read()
    return os.waitpid(pid, 0)[1], json.loads(data or b"null")


def start(url: str, overrides: list[str], k: int) -> None:
    """Run, and be killed at the k-th change (0: at none)."""
    if k:
        count_objects(k) if "://" in url else count_files(url, k)
    if overrides == ["units"]:
        export_later(url)
    else:
        run(compose_config([*overrides, f"run.dir={url}"]), quiet=True)


def export_earlier(url: str) -> None:
    """Export three units in two splits and one more format, with a picture, as a run does."""
    config = Config(export=ExportConfig(formats=["sft"], test_fraction=0.4))
    export(url, config, ["figures/old.png"])


def export_later(url: str) -> None:
    """Export the same units with other settings."""
    config = Config()
    config.pairs.min_margin = 1.0
    export(url, config, [])


def export(url: str, config: Config, pictures: Sequence[str]) -> None:
    """Let an export take the place of `<url>/dataset`."""
    config.prompts.path, config.run.dir = "builtin:examples", url
    storage = open_storage(url)
    with stage_export(storage) as staged:
        assert staged.root is not None
        result = export_units(staged.root, 3, config)
        for path in pictures:
            staged.replace(f"dataset/{path}", b"PNG")
        report = {"complete": True, "pairs": result.pairs}
        commit_export(storage, staged, config=dump_config(config), stages={}, dataset=result.dataset, report=report)
    storage.replace("report.json", json.dumps(report).encode())


def count_files(directory: str, k: int) -> None:
    """Let SIGKILL come with the k-th change of a file or name below `directory`, and of the exchange of two names."""
    left = k

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and bool(flags & WRITING) and str(path).startswith(directory)
        elif event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
            changes = str(arguments[0]).startswith(directory) or arguments[-1] not in (None, -1)  # relative: of rmtree
        else:
            changes = event == "ctypes.dlsym" and arguments[1] == "renameat2"
        if changes and "logs" not in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def count_objects(k: int) -> None:
    """Let SIGKILL come before the k-th request that changes an object store."""
    left = k

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **named)

        return call

    for name in ("create", "replace", "swap", "delete"):
        setattr(ObjectStorage, name, counted(getattr(ObjectStorage, name)))


def publish(url: str) -> dict[str, Any]:
    """Return what `synthgen publish` to a directory says, and the hashes of what it leaves there."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()) as out:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            status = run_command(["publish", f"run_dir={url}", f"publish.to_dir={directory}/out"])
        sent = hash_tree(f"{directory}/out", "")
    return {"status": status, "said": out.getvalue() + errors.getvalue(), "sent": sent}


def hash_dataset(url: str) -> dict[str, str]:
    """Return the hashes of the run's data set by path."""
    return hash_tree(url, "dataset")


def hash_tree(url: str, prefix: str) -> dict[str, str]:
    """Return hashes of data and pictures by path: cards and manifests hold times."""
    storage = open_storage(url)
    paths = [path for path in storage.list(prefix) if path.endswith((".parquet", ".jsonl", ".png"))]
    return {path.removeprefix(f"{prefix}/"): hashlib.sha256(storage.read(path)).hexdigest() for path in paths}


def copy_run(source: str, target: str) -> None:
    """Copy a run directory, without a client that a fork would inherit."""
    if "://" not in source:
        shutil.copytree(source, target)
        return
    status, _ = in_child(lambda: copy_objects(source, target))
    assert status == 0


def copy_objects(source: str, target: str) -> None:
    """Copy all objects below a prefix."""
    to = open_storage(target)
    storage = open_storage(source)
    for path in storage.list(""):
        to.replace(path, storage.read(path))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
