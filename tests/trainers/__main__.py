"""`make trainers`: load every export by the trainers' own code.

    python -m trainers [names…] [--source NAME=DIR …] [--keep DIR]

For each trainer its package, at the version named here, is installed without its dependencies into a directory of its
own (`--keep` keeps them; else they are gone afterwards), and a process of its own loads the data set with it: what the
project has installed (torch, transformers, datasets, TRL) serves for the rest. The data set is made of the prompts and
completions in `pairs.py`, with a test split. What a loader gives is compared text by text with the run's own rows.

Trainers that are in no package registry are checked out by hand and named by `--source`; without it they are left out,
and the table says so. The exit status is 1 where a loader gives other rows than is written in KNOWN.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from exported_runs import export_units

from synthgen.config import Config, ExportColumns, ExportConfig
from synthgen.export.formats import FORMATS
from trainers.expected import CHATML, Result
from trainers.pairs import make_unit

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Trainer:
    """What is installed for a trainer's loader; no package: it is installed already, or checked out by hand.

    Attributes:
        version: as the table names it.
        packages: requirements of its loader that the project lacks, each without its own dependencies.
        source: where a checkout comes from, and the commit that was read.
    """

    version: str
    packages: tuple[str, ...] = ()
    source: str = ""


TRAINERS = {
    "trl": Trainer("1.16.0"),
    "llamafactory": Trainer("0.9.5", ("llamafactory==0.9.5", "fire", "termcolor")),
    "axolotl": Trainer(
        "0.19.0",
        ("axolotl==0.19.0", "addict", "colorama", "fire", "termcolor", "art", "python-dotenv", "posthog", "backoff",
         "distro"),
    ),
    "openrlhf": Trainer("0.11.2", ("openrlhf==0.11.2", "pylatexenc")),
    "torchtune": Trainer(
        "0.6.1", ("torchtune==0.6.1", "torchao==0.10.0", "torchdata==0.11.0", "kagglehub", "blobfile")
    ),
    "verl": Trainer("0.9.1", ("verl==0.9.1", "tensordict==0.10.0", "codetiming", "pyvers", "orjson")),
    "open_instruct": Trainer("e6c3044", source="github.com/allenai/open-instruct, commit e6c3044"),
    "nemo_rl": Trainer("7ea279a", source="github.com/NVIDIA-NeMo/RL, commit 7ea279a (0.6.0 and later)"),
    "alignment_handbook": Trainer("0.3.0", source="github.com/huggingface/alignment-handbook, tag v0.3.0"),
}  # fmt: skip

KNOWN = {("axolotl", "DPO"): 6}
"""Rows that a loader changes by itself. axolotl's DPO strategies look for a completion's text in a rendered
conversation and take all from there on: one that occurs in the template's own text (`user`) comes out wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *TRAINERS], metavar="name", help=", ".join(TRAINERS))
    parser.add_argument("--source", action="append", default=[], metavar="NAME=DIR", help="a checkout")
    parser.add_argument("--keep", type=Path, help="directory for the packages and the data set, kept")
    parser.add_argument("--tools", action="store_true", help="prompts with a tool's turn too, which no run makes yet")
    options = parser.parse_args(arguments)
    sources = {name: Path(path).resolve() for name, _, path in (entry.partition("=") for entry in options.source)}
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.keep or Path(temporary)).resolve()
        tokenizer = _make_model(root / "model")
        datasets = {
            columns: _make_dataset(root / f"run-{columns.value}", columns, tools=options.tools)
            for columns in ExportColumns
        }
        faults = 0
        for name in options.names or TRAINERS:
            for columns, dataset in datasets.items():
                faults += _check(name, root, sources.get(name), dataset, columns, tokenizer)
    return 1 if faults else 0


def _check(name: str, root: Path, source: Path | None, dataset: Path, columns: ExportColumns, tokenizer: Path) -> int:
    """Check one trainer, print its rows of the table, and return how many are wrong."""
    trainer = TRAINERS[name]
    if trainer.source and source is None:
        if columns is ExportColumns.all:
            print(f"{name} {trainer.version}: left out, --source {name}=DIR names a checkout of {trainer.source}")
        return 0
    try:
        results = _load(name, source or _install(root / name, trainer), root, dataset, tokenizer)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"{name} {trainer.version}: FAILED: {str(getattr(error, 'stderr', '') or error)[-2000:]}", flush=True)
        return 1
    faults = 0
    for result in results:
        lost = result.rows - result.whole
        wrong = lost != (KNOWN.get((name, result.task), 0))
        faults += wrong
        verdict = "WRONG" if wrong else "known" if lost else "ok"
        print(
            f"{verdict:<6}{name} {trainer.version:<10} {result.task:<8}{result.config:<20}"
            f"columns={columns.value:<8} {result.whole}/{result.rows} rows  {result.loader}"
            f"{'; ' + result.note if result.note else ''}",
            flush=True,
        )
    return faults


def _install(target: Path, trainer: Trainer) -> Path:
    if trainer.packages and not target.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*command, "--target", str(target), *trainer.packages], check=True, capture_output=True, text=True
        )
    return target


def _load(name: str, packages: Path, root: Path, dataset: Path, tokenizer: Path) -> list[Result]:
    own = [str(HERE.parent), str(HERE.parents[1]), str(packages)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(own),
        "HF_HOME": str(root / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "disabled",
    }
    scratch = root / f"scratch-{name}-{dataset.parent.name}"
    done = subprocess.run(
        [sys.executable, str(HERE / f"check_{name}.py"), str(dataset), str(tokenizer), str(scratch)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return [Result(**entry) for entry in json.loads(done.stdout.strip().splitlines()[-1])]


def _make_dataset(path: Path, columns: ExportColumns, *, tools: bool) -> Path:
    export = ExportConfig(test_fraction=0.25, formats=list(FORMATS), columns=columns)
    export_units(path, 1, Config(export=export), make=partial(make_unit, tools=tools))
    return path / "dataset"


def _make_model(path: Path) -> Path:
    """The tiny model without its quantization (trainers change weights), with a chat template that changes no text."""
    from transformers import AutoTokenizer

    from synthgen.models.dequantize import dequantize_checkpoint
    from synthgen.models.tiny import ensure_tiny_model

    if not path.exists():
        dequantize_checkpoint(str(ensure_tiny_model()), path)
        tokenizer = AutoTokenizer.from_pretrained(path)
        tokenizer.chat_template = CHATML
        tokenizer.save_pretrained(path)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
