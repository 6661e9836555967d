"""The recipes of conf/experiment compose, plan and run to the end on echo, whole and without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthgen.config.compose import compose_config
from synthgen.config.forms import find_places
from synthgen.planning import make_plan
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs

OWN = (
    "def check(*, completion, **_):\n"
    "    return len(completion) % 2\n"
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["best_of_five", "delta_pairs", "tulu3_pairs", "zephyr_pairs", "air_pairs", "verified_math", "ultrafeedback_pairs"],
)
def test_recipe_runs_on_echo(name: str, tmp_path: Path) -> None:
    lines = [{"question": f"What is {i} + {i}?", "answer": f"#### {2 * i}"} for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "own.py").write_text(OWN)
    models = [f"{place}=echo" for place in sorted(find_places(name, None)) if place.startswith("model@")]
    prompts = [f"prompts.path={tmp_path / 'prompts.jsonl'}", "prompts.config=null", "prompts.column=question"]
    overrides = [f"experiment={name}", *models, *prompts, f"run.dir={tmp_path / 'run'}"]
    if name == "verified_math":  # echo solves nothing: half of its texts shall count as right
        make_plan(compose_config(overrides))
        overrides += [f"scorers.maths.kind=python:{tmp_path / 'own.py'}:check"]
    config = compose_config(overrides)
    plan = make_plan(config)
    with inline_runs():
        report = run(config, quiet=True)
    assert [item.name for item in plan.work] == list(report["stages"])
    assert report["pairs"]["made"] > 0
    assert sum(report["dataset"]["default"].values()) == report["pairs"]["made"]
