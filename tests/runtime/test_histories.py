"""Random histories of a run: it grows, is edited, damaged, killed, judged anew, paired anew, published. The end is that
of a fresh run from the same inputs, to the byte; on a disk and in an object store.

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

from benchmarks.fault_proxy import moto_server
from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.ledger.storage import open_storage
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs, killed_at
from tests.object_stores import make_bucket

JUDGES = ("judge.orders=1", "judge.orders=2", "judge.aspects=[helpfulness]")
PAIRS = ("pairs.policy=best_worst", "pairs.policy=best_random", "pairs.min_margin=1.0")


class Histories(RuleBasedStateMachine):
    """One run directory and what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.life = self.stack.enter_context(inline_runs())
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.url = self.make_url()
        self.storage = open_storage(self.url)
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
        before = self.dataset()
        self.bad_lines = 40
        with pytest.raises(ConfigError, match="are bad"):
            self.start()
        self.bad_lines = 0
        assert self.dataset() == before

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
        before = self.dataset()
        if killed_at(self.life, changes, self.start, self.storage):
            assert self.dataset() == before or self.may_be_mixed or self.publish(), "half of an export"

    @rule(number=st.integers(0, 200), way=st.integers(0, 4))
    def damage(self, number: int, way: int) -> None:
        paths = [path for path in self.storage.list("") if not path.startswith("logs/")]
        path, other = paths[number % len(paths)], paths[(number + 1) % len(paths)]
        if way == 0:
            self.storage.delete(path)
        else:
            data = self.storage.read(path)
            self.storage.replace(path, [b"", data[: len(data) // 2], b"null", self.storage.read(other)][way - 1])

    @rule()
    def complete(self) -> None:
        self.start()
        self.check_once()

    @rule()
    def publish_or_not(self) -> None:
        self.publish()

    def publish(self) -> bool:
        """Return whether a data set could be published, which then is a whole one."""
        target = self.root / "published"
        shutil.rmtree(target, ignore_errors=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = run_command(["publish", f"run_dir={self.url}", f"publish.to_dir={target}"])
        assert "Traceback" not in printed.getvalue()
        assert "unexpected" not in printed.getvalue(), printed.getvalue()
        if status == 0:
            rows = pq.read_table(target / "generations")["completion_id"].to_pylist()
            ids = pq.read_table(target / "generations")["prompt_id"].to_pylist()
            assert len(set(zip(ids, rows, strict=True))) == len(rows)
        return status == 0

    def teardown(self) -> None:
        try:
            if self.answers:
                self.start()
                self.check_once()
                self.check_oracle()
        finally:
            self.stack.close()

    # How it is held against the oracle

    may_be_mixed = False
    """Whether a kill can leave files of two exports beside each other, which nothing publishes then."""

    def make_url(self) -> str:
        return str(self.root / "run")

    def dataset(self) -> dict[str, bytes]:
        paths = [path for path in self.storage.list("dataset") if path.endswith(".parquet")]
        return {path: self.storage.read(path) for path in paths}

    def start(self, url: str = "") -> dict[str, Any]:
        lines = [json.dumps({"prompt": f"Question {i}?", "answer": answer}) for i, answer in self.answers.items()]
        (self.root / "prompts.jsonl").write_text("\n".join(lines + ["{"] * self.bad_lines) + "\n")
        (self.root / "leaked.jsonl").write_text("".join(lines[i] + "\n" for i in self.excluded) or '{"prompt": "?"}\n')
        overrides = [
            "experiment=echo", f"prompts.path={self.root / 'prompts.jsonl'}", "prompts.reference_column=answer",
            f"prompts.exclude=[{self.root / 'leaked.jsonl'}]", "generators.main.n=2", f"run.unit_size={self.unit_size}",
            f"run.dir={url or self.url}", "judge.canary_fraction=0.3", self.judge, self.pairs,
        ]  # fmt: skip
        with contextlib.redirect_stderr(io.StringIO()):
            return run(compose_config(overrides), quiet=True)

    def check_once(self) -> None:
        """Every prompt that is not excluded has its completions, once."""
        files = [io.BytesIO(data) for path, data in self.dataset().items() if "/generations/" in path]
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        asked = sorted(int(row["prompt"][-1]["content"].split()[1].rstrip("?")) for row in rows)
        assert asked == sorted(2 * [i for i in self.answers if i not in self.excluded])

    def check_oracle(self) -> None:
        fresh = open_storage(str(self.root / "fresh"))
        self.start(fresh.url)
        wanted = {path: fresh.read(path) for path in fresh.list("dataset") if path.endswith(".parquet")}
        assert self.dataset() == wanted


class HistoriesInAStore(Histories):
    """The same in an object store."""

    may_be_mixed = True

    def make_url(self) -> str:
        endpoint = self.stack.enter_context(moto_server())
        return make_bucket(endpoint, self.stack.enter_context(pytest.MonkeyPatch.context())) + "/run"


def settings_of(examples: int) -> settings:
    wanted = int(os.environ.get("SYNTHGEN_HISTORIES", examples))
    checks = list(HealthCheck)
    return settings(max_examples=wanted, stateful_step_count=10, deadline=None, suppress_health_check=checks)


TestHistories = Histories.TestCase
TestHistories.settings = settings_of(8)
TestHistoriesInAStore = HistoriesInAStore.TestCase
TestHistoriesInAStore.settings = settings_of(3)
