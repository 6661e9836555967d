"""Random histories of a run: it grows, is edited, damaged, killed, judged anew, paired anew, published. The end is that
of a fresh run from the same inputs, to the byte.

SYNTHGEN_HISTORIES sets how many histories are tried (`make chaos` tries 200).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.runtime.run import run
from tests.command_line import dataset_bytes
from tests.inline_runs import inline_runs, killed_at

JUDGES = ("judge.orders=1", "judge.orders=2", "judge.aspects=[helpfulness]")
PAIRS = ("pairs.policy=best_worst", "pairs.policy=best_random", "pairs.min_margin=1.0")


class Histories(RuleBasedStateMachine):
    """One run directory and what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.life = self.stack.enter_context(inline_runs())
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.answers: dict[int, str] = {}
        self.excluded: set[int] = set()
        self.unit_size, self.judge, self.pairs = 3, JUDGES[0], PAIRS[0]
        self.bad_lines = 0

    # What happens

    @initialize(prompts=st.integers(1, 5))
    def begin(self, prompts: int) -> None:
        self.answers = dict.fromkeys(range(prompts), "a")
        self.start()

    @rule(prompts=st.integers(1, 5))
    def grow(self, prompts: int) -> None:
        self.answers |= dict.fromkeys(range(len(self.answers), len(self.answers) + prompts), "a")

    @rule()
    def grow_badly(self) -> None:
        """A growth that is refused leaves what is there as it is."""
        before = dataset_bytes(self.run_dir)
        self.bad_lines = 40
        with pytest.raises(ConfigError, match="are bad"):
            self.start()
        self.bad_lines = 0
        assert dataset_bytes(self.run_dir) == before

    @rule(number=st.integers(0, 30))
    def edit_reference(self, number: int) -> None:
        self.answers[number % len(self.answers)] += "b"

    @rule(number=st.integers(0, 30))
    def exclude(self, number: int) -> None:
        if len(self.excluded) + 1 < len(self.answers):
            self.excluded ^= {number % len(self.answers)}

    @rule(unit_size=st.integers(1, 6))
    def change_unit_size(self, unit_size: int) -> None:
        self.unit_size = unit_size

    @rule(judge=st.sampled_from(JUDGES))
    def change_judge(self, judge: str) -> None:
        self.judge = judge

    @rule(pairs=st.sampled_from(PAIRS))
    def change_pairs(self, pairs: str) -> None:
        self.pairs = pairs

    @rule(changes=st.integers(0, 60))
    def kill(self, changes: int) -> None:
        before = dataset_bytes(self.run_dir)
        if killed_at(self.life, changes, self.start, self.run_dir):
            after = dataset_bytes(self.run_dir)
            assert after == before or self.is_whole(), "half of an export"

    @rule(number=st.integers(0, 200), way=st.integers(0, 4))
    def damage(self, number: int, way: int) -> None:
        paths = sorted(path for path in self.run_dir.rglob("*") if path.is_file() and path.parent.name != "logs")
        path, other = paths[number % len(paths)], paths[(number + 1) % len(paths)]
        if way == 0:
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes([b"", data[: len(data) // 2], b"null", other.read_bytes()][way - 1])

    @rule()
    def complete(self) -> None:
        self.start()
        self.check_once()

    @rule()
    def publish(self) -> None:
        """What is published is a whole data set, or nothing is."""
        target = self.root / "published"
        shutil.rmtree(target, ignore_errors=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = run_command(["publish", f"run_dir={self.run_dir}", f"publish.to_dir={target}"])
        assert "Traceback" not in printed.getvalue()
        assert "unexpected" not in printed.getvalue(), printed.getvalue()
        if status == 0:
            rows = pq.read_table(target / "generations")["completion_id"].to_pylist()
            ids = pq.read_table(target / "generations")["prompt_id"].to_pylist()
            assert len(set(zip(ids, rows, strict=True))) == len(rows)

    def teardown(self) -> None:
        try:
            if self.answers:
                self.start()
                self.check_once()
                self.check_oracle()
        finally:
            self.stack.close()

    # How it is held against the oracle

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    def start(self, run_dir: Path | None = None) -> dict[str, Any]:
        lines = [json.dumps({"prompt": f"Question {i}?", "answer": answer}) for i, answer in self.answers.items()]
        (self.root / "prompts.jsonl").write_text("\n".join(lines + ["{"] * self.bad_lines) + "\n")
        (self.root / "leaked.jsonl").write_text("".join(lines[i] + "\n" for i in self.excluded) or '{"prompt": "?"}\n')
        overrides = [
            "experiment=echo", f"prompts.path={self.root / 'prompts.jsonl'}", "prompts.reference_column=answer",
            f"prompts.exclude=[{self.root / 'leaked.jsonl'}]", "generators.main.n=2", f"run.unit_size={self.unit_size}",
            f"run.dir={run_dir or self.run_dir}", "judge.canary_fraction=0.3", self.judge, self.pairs,
        ]  # fmt: skip
        with contextlib.redirect_stderr(io.StringIO()):
            return run(compose_config(overrides), quiet=True)

    def is_whole(self) -> bool:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            return run_command(["publish", f"run_dir={self.run_dir}", f"publish.to_dir={self.root / 'whole'}"]) == 0

    def check_once(self) -> None:
        """Every prompt that is not excluded has its completions, once."""
        rows = pq.read_table(self.run_dir / "dataset/generations").to_pylist()
        asked = sorted(int(row["prompt"][-1]["content"].split()[1].rstrip("?")) for row in rows)
        assert asked == sorted(2 * [i for i in self.answers if i not in self.excluded])

    def check_oracle(self) -> None:
        fresh = self.root / "fresh"
        self.start(fresh)
        assert dataset_bytes(self.run_dir) == dataset_bytes(fresh)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(os.environ.get("SYNTHGEN_HISTORIES", "8")),
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
