"""Six data sets from one set of completions, in one run directory, and a training step with TRL on each.

`python -m benchmarks.six` (`make six`) answers the prompts once, with two generators, and then only changes what pairs
them: the judge; a verifier as a gate; judge and verifier by weights; one generator over the other; given completions
that are judged again, with the report of flips; a length-controlled score with exactly N pairs. It stops where
completions were made again, where a data set has no pair, or where a step does not train.

In: nothing; the engines are `echo`, the trained model is `builtin:tiny` (--model, --trained for others). Out: the data
sets below --out, a line each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMPTS = 48
TARGET = 12
GENERATORS = ("big", "small")


@dataclass(frozen=True)
class DataSet:
    """One of the six: its name, and what is given over the first command."""

    name: str
    overrides: tuple[str, ...]
    pairs: int | None = None


VERIFIER = ("scorers.words.kind=regex", "scorers.words.pattern='^([^ ]+ ){20}'", "pairs.score=judge")
GIVEN = ("scorers.human.type=recorded", "scorers.human.generator=mine", "pairs.score=human")
SIX = (
    DataSet("judge", ()),
    DataSet("verifier_gate", (*VERIFIER, "pairs.chosen_must_pass=[words]")),
    DataSet("judge_and_verifier", (*VERIFIER[:2], "pairs.weights={judge: 1, words: 0.5}")),
    DataSet("by_generator", ("pairs=by_generator", "pairs.chosen_generator=big", "pairs.rejected_generator=small")),
    DataSet("own_rejudged", GIVEN),
    DataSet("length_controlled", ("pairs.length_control=true", f"pairs.target={TARGET}"), pairs=TARGET),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the six, and return 0; 1 where one of them is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="echo", help="what generates and judges, a name of the catalog")
    parser.add_argument("--trained", default="builtin:tiny", help="what is trained for one step")
    parser.add_argument("--out", type=Path, help="a new folder; left out: a temporary one, which is removed")
    given = parser.parse_args(argv)
    if given.out is not None:
        return _make_all(given.out, given.model, given.trained)
    with tempfile.TemporaryDirectory(prefix="synthgen-six-") as folder:
        return _make_all(Path(folder), given.model, given.trained)


def _make_all(out: Path, model: str, trained: str) -> int:
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    run_dir = out / "run"
    first = [*_write_inputs(out, model), f"run.dir={run_dir}"]
    made: dict[str, int] | None = None
    for one in SIX:
        started = time.monotonic()
        given = [f"+generators.mine.path={out / 'mine.jsonl'}"] if one.name == "own_rejudged" else []
        report = _run([*first, *given, *one.overrides], run_dir)
        here = {path.name: path.stat().st_mtime_ns for path in _list_completions(run_dir)}
        if made is not None and here != made:
            return _fail(f"{one.name}: completions were made again")
        made = here
        if (problem := _find_problem(one, report)) is not None:
            return _fail(f"{one.name}: {problem}")
        data = out / one.name
        shutil.copytree(run_dir / "dataset", data)
        loss = _train(data, out / f"trained-{one.name}", trained)
        took = time.monotonic() - started
        print(f"{one.name:<20} {report['pairs']['made']:>4} pairs, loss of a step {loss:.4f}, {took:.0f} s", flush=True)
    print(f"six data sets of {PROMPTS} prompts, answered once: {(time.monotonic() - began) / 60:.1f} minutes")
    return 0


def _write_inputs(out: Path, model: str) -> list[str]:
    """Write prompts and the completions that are there already, and return the command that all six begin with."""
    prompts = [f"Write a line about the number {number}." for number in range(PROMPTS)]
    (out / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    mine = [
        {"prompt": text, "chosen": f"{number} is a number that I like.", "rejected": f"No {number}, sorry about that."}
        for number, text in enumerate(prompts)
    ]
    (out / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    return [
        "experiment=echo",
        f"prompts.path={out / 'prompts.jsonl'}",
        "run.unit_size=8",
        "~generators.main",
        *[f"+generators.{name}.n=2" for name in GENERATORS],
        *[f"+model@generators.{name}.model={model}" for name in GENERATORS],
        f"model@judge.model={model}",
    ]


def _run(overrides: Sequence[str], run_dir: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, "-m", "synthgen", "run", *overrides], check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    return report


def _list_completions(run_dir: Path) -> list[Path]:
    return [path for name in GENERATORS for path in sorted(run_dir.glob(f"stages/generate-{name}-*/unit-*.parquet"))]


def _find_problem(one: DataSet, report: dict[str, Any]) -> str | None:
    made = report["pairs"]["made"]
    if not made:
        return "no pair was made"
    if one.pairs is not None and made != one.pairs:
        return f"{made} pairs instead of {one.pairs}"
    if one.name == "own_rejudged" and not report.get("flips"):
        return "the report says nothing of flips"
    return None


def _train(data: Path, out: Path, model: str) -> float:
    """Train a step of DPO on a data set, and return its loss."""
    from synthgen.training.train import compose_train_config, train

    settings = (
        "max_steps=1",
        "per_device_train_batch_size=2",
        "gradient_accumulation_steps=1",
        "report_to=none",
        "use_cpu=true",
    )
    overrides = [f"data={data}", f"model={model}", f"output_dir={out}", *(f"++args.{one}" for one in settings)]
    metrics = train("dpo", compose_train_config("dpo", overrides))
    return float(metrics["train_loss"])


def _fail(line: str) -> int:
    print(f"six: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
