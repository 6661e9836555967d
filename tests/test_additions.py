"""What a user's own package adds by entry points: an engine, a pair policy, a prompt reader, a judge format, a scorer,
a command.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

PACKAGE = {
    "toybox-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toybox\nVersion: 1.0\n",
    "toybox-1.0.dist-info/entry_points.txt": """\
[synthgen.engines]
shout = toybox.engines:SHOUT
broken = toybox.absent:X

[synthgen.pair_policies]
best_second = toybox.policy:propose

[synthgen.prompt_readers]
.toy = toybox.reader:read_toy

[synthgen.judge_formats]
marks = toybox.marks:MARKS

[synthgen.scorers]
words = toybox.scorer:WordsStage

[synthgen.commands]
hello = toybox.command:main
""",
    "toybox/__init__.py": "",
    "toybox/engines.py": """\
from synthgen.config import EngineType

SHOUT = EngineType("toybox.shout:ShoutEngine", makes_text_up=True, fingerprint=lambda model: {"shout": 1})
""",
    "toybox/shout.py": """\
from dataclasses import replace

from synthgen.engines.echo import EchoEngine


class ShoutEngine(EchoEngine):
    async def generate(self, request):
        return [replace(one, text=one.text.upper()) for one in await super().generate(request)]
""",
    "toybox/policy.py": """\
import polars as pl


def propose(scored, config):
    best = scored.filter(pl.col("may_be_chosen")).group_by("prompt", maintain_order=True).first()
    both = best.join(scored, on="prompt", suffix="_of_other").filter(pl.col("score") > pl.col("score_of_other"))
    second = both.group_by("prompt", maintain_order=True).first()
    return second.select("prompt", chosen="completion", rejected="completion_of_other")
""",
    "toybox/reader.py": """\
def read_toy(path, name):
    from synthgen.prompts.rows import Row

    for index, line in enumerate(path.read_text().splitlines()):
        yield Row(index, index + 1, {"prompt": line.removeprefix("toy> ")})
""",
    "toybox/marks.py": """\
import re

from synthgen.judge.form import JudgeFormat
from synthgen.judge.parse import ParsedRatings


class Marks:
    def hash_text(self, aspect):
        return "1"

    def make_form(self, aspect, n, rationale):
        marks = [f"{k}=({'|'.join(aspect.choices)})" for k in range(1, n + 1)]
        return JudgeFormat(";".join(marks), 8 * n, ";".join(f"{k}={{{k - 1}}}" for k in range(1, n + 1)), "")

    def ask(self, aspect, instruction, texts, note, layout):
        shown = chr(10).join(f"[{k}] {text}" for k, text in enumerate(texts, 1))
        return [{"role": "user", "content": f"Mark {aspect.name} of each answer to: {instruction} {shown}"}]

    def read(self, text, n, aspect, *, truncated):
        found = {int(match[1]): match for match in re.finditer(r"(\\d+)=(\\d+)", text)}
        marks = [found.get(k) for k in range(1, n + 1)]
        ratings = tuple(int(mark[2]) if mark and mark[2] in aspect.choices else None for mark in marks)
        status = "ok" if None not in ratings else "partial" if any(ratings) else "invalid"
        starts = tuple(mark.start(2) if mark else None for mark in marks)
        problems = tuple("missing" if rating is None else None for rating in ratings)
        return ParsedRatings(ratings, (None,) * n, status, starts, problems)


MARKS = Marks()
""",
    "toybox/scorer.py": """\
import pyarrow as pa

from synthgen.records import Request, Sampling


class WordsStage:
    name, priority, sequences_per_prompt = "words", 5, 1
    schema = pa.schema([("prompt_id", pa.string()), ("words", pa.int64()), ("error", pa.string())])

    def __init__(self, model, source):
        self.model, self.source = model, source
        self.inputs = ("prompts", source)

    def fingerprint_fields(self):
        return {"source": self.source}

    def prepare(self, tables):
        turn = {"role": "user", "content": "go"}
        return [Request(one, [turn], Sampling()) for one in tables["prompts"]["prompt_id"].to_pylist()]

    def follow_up(self, request, completions):
        return None

    def collect(self, tables, requests, outcomes):
        texts = {}
        for row in tables[self.source].to_pylist():
            texts[row["prompt_id"]] = texts.get(row["prompt_id"], 0) + len(row["text"].split())
        rows = [{"prompt_id": request.request_id, "words": texts[request.request_id]} for request in requests]
        return pa.Table.from_pylist(rows, schema=self.schema)

    def measure(self, units, upstream):
        counted = [words for tables in units for words in tables[self.name]["words"].to_pylist()]
        return {"words": {"prompts": len(counted), "from": list(upstream)}, "histograms": {"words": counted}}
""",
    "toybox/command.py": """\
def main(overrides, config_dir):
    print("hello", *overrides)
    return 0
""",
}
PIPELINE = """\
from dataclasses import replace

from pipelines.preference import build_flow as build_preference
from synthgen.stages.scorers import find_scorer


def build_flow(config):
    flow = build_preference(config)
    model = config.generators["main"].model
    return replace(flow, stages=(*flow.stages, find_scorer("words")(model, flow.stages[0].name)))
"""
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds the user's installed package."""
    root = tmp_path_factory.mktemp("site")
    for path, text in PACKAGE.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    return root


def synthgen(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])}
    command = [sys.executable, "-m", "synthgen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=package)


def test_a_package_adds_everything_that_a_run_uses(package: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.toy").write_text("".join(f"toy> Tell me about number {i}.\n" for i in range(12)))
    (tmp_path / "flow.py").write_text(PIPELINE)
    done = synthgen(
        package,
        *("run", "experiment=echo", f"pipeline={tmp_path / 'flow.py'}", f"run.dir={tmp_path / 'run'}"),
        *(f"prompts.path={tmp_path / 'prompts.toy'}", "run.unit_size=6", "pairs.policy=best_second"),
        *("generators.main.model.engine=shout", "judge.format=marks"),
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "run" / "dataset" / "data").to_pylist()
    assert rows
    assert {row["pair_policy"] for row in rows} == {"best_second"}
    assert all(row["chosen"][0]["content"].isupper() for row in rows)
    assert {row["prompt"][0]["content"][:13] for row in rows} == {"Tell me about"}
    (judged,) = (tmp_path / "run" / "stages").glob("judge-*")
    answers = pq.read_table(judged).to_pylist()
    assert {row["status"] for row in answers} == {"ok"}
    assert all(re.fullmatch(r"\d=\d(;\d=\d)*", row["raw_text"]) for row in answers)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["words"] == {"prompts": 12, "from": ["generate-main"]}
    assert len(report["histograms"]["words"]) == 12
    assert report["histograms"]["ratings"]
    assert report["trust"]["generator_models"] == {"main": report["stages"]["generate-main"]["model"]}


def test_a_package_adds_a_command(package: Path) -> None:
    assert synthgen(package, "hello", "a=1").stdout == "hello a=1\n"


def test_what_cannot_be_imported_is_named_in_one_line(package: Path) -> None:
    done = synthgen(package, "plan", "experiment=echo", "generators.main.model.engine=broken")
    assert done.returncode == 2
    assert "model.engine=broken: toybox.absent:X of the package toybox cannot be imported" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_that_nobody_added_is_refused_with_the_nearest(package: Path) -> None:
    done = synthgen(package, "plan", "experiment=echo", "generators.main.model.engine=shot")
    assert "generators.main.model.engine='shot' is not known; did you mean shout?" in done.stderr
