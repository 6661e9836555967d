"""`jobs/recovery.py`: settings, what is done and what fails.

A stand-in for lm-eval has its functions and dies on demand; the last test runs lm-eval itself, where its packages have
been fetched.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthgen.config.resources import project_path
from synthgen.errors import ConfigError
from synthgen.models.tiny import ensure_tiny_model
from synthgen.recovery.environment import is_there
from synthgen.recovery.evaluations import _hash_checkpoint, hash_tasks
from synthgen.recovery.job import VALUES, main
from synthgen.recovery.mends import explain_memory, explain_task
from synthgen.recovery.settings import RecoveryConfig, compose_recovery_config, read_presets

STAND_IN = """
import os, time
def simple_evaluate(model, tasks, limit, **_):
    task, = tasks
    open(os.environ["ASKED"], "a").write(f"{model} {task}\\n")
    if task == os.environ.get("DIES"):
        os._exit(7)
    if task == os.environ.get("WAITS"):
        time.sleep(600)
    if task == os.environ.get("LEAVES"):
        raise SystemExit(0)
    if task == os.environ.get("FAILS"):
        raise ConnectionError("Couldn't reach the data")
    hits = [float((i * 7 + len(task) + len(model)) % 3 > 0) for i in range(limit or 30)]
    return {
        "results": {task: {"acc,none": sum(hits) / len(hits)}}, "n-shot": {task: 0}, "versions": {task: 1},
        "higher_is_better": {task: {"acc": True}},
        "samples": {
            task: [{"doc_id": i, "doc_hash": str(i), "filter": "none", "acc": hit} for i, hit in enumerate(hits)]
        },
    }
"""
TASKS = """
class TaskManager:
    all_tasks = ["one", "two", "three", "four"]
    def __init__(self, include_path): pass
    def load(self, tasks): pass
"""
REGISTRY = """
import os
class Model(str):
    @classmethod
    def create_from_arg_obj(cls, args, more):
        if args["pretrained"] == os.environ.get("UNLOADABLE"):
            raise RuntimeError("CUDA out of memory")
        return cls(args["pretrained"])
def get_model(name):
    return Model
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which the stand-in for lm-eval notes what it is asked: a model and a task per line."""
    package = tmp_path / "packages" / "lm_eval"
    (package / "tasks").mkdir(parents=True)
    (package / "api").mkdir()
    (package / "__init__.py").write_text(STAND_IN)
    (package / "tasks" / "__init__.py").write_text(TASKS)
    (package / "api" / "__init__.py").write_text("")
    (package / "api" / "registry.py").write_text(REGISTRY)
    monkeypatch.setattr("synthgen.recovery.job.ensure_environment", lambda: tmp_path / "packages")
    monkeypatch.setattr("synthgen.training.child.LOOK_EVERY_S", 0.05)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    (tmp_path / "asked").write_text("")
    return tmp_path / "asked"


def make_config(*overrides: str) -> RecoveryConfig:
    return compose_recovery_config(["model=org/quantized", "base=org/base", "output_dir=x", *overrides])


def list_overrides(output: Path, *more: str) -> list[str]:
    return ["model=org/quantized", "base=org/base", f"output_dir={output}", "tasks=[one,two,three,four]", *more]


def read_figures(output: Path) -> list[list[tuple[object, ...]]]:
    sections = json.loads((output / VALUES).read_text())["sections"]
    return [[tuple(row.values()) for row in section["rows"]] for section in sections]


def test_presets_have_the_cards_rows() -> None:
    presets = read_presets(make_config("tasks=[openllm_v1,openllm_v2,humaneval,arc_easy]", "allow_code=true"))
    assert [preset.title for preset in presets] == ["OpenLLM V1", "OpenLLM V2", "Coding", "Tasks"]
    shots = {row.task: row.num_fewshot for row in presets[0].rows}
    assert shots == {
        "arc_challenge": 25, "gsm8k": 5, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0, "winogrande": 5
    }  # fmt: skip
    for row in presets[0].rows:
        assert row.name is not None
        assert row.name.endswith(f"{row.num_fewshot}-shot)")
    assert len(presets[1].rows) == 6
    assert [preset.apply_chat_template for preset in presets] == [False, True, True, False]
    shipped = sorted(path.stem for path in (project_path("conf") / "recovery" / "presets").glob("*.yaml"))
    assert shipped == ["humaneval", "openllm_v1", "openllm_v2"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["limits=3"], "limits"),
        (["limit=0"], "limit=0 must be at least 1"),
        (["gpu_memory_utilization=1.5"], "gpu_memory_utilization=1.5 must be above 0"),
        (["backend=sglang"], "sglang"),
        (["tasks_dir=none/such"], "tasks_dir=none/such is not a directory"),
        (["base=org/quantized"], "model and base are both org/quantized"),
        (["base=null"], "base is not set, and model=org/quantized does not say"),
        (["tasks=[]"], "names nothing; there are: humaneval, openllm_v1, openllm_v2"),
        (["tasks=[openllmv1]"], "did you mean openllm_v1"),
        (["tasks=[humaneval]"], "tasks has humaneval_instruct, which runs code .* allow_code=true"),
        (["tasks=[arc_easy,arc_easy]"], "tasks has arc_easy twice"),
        (["tasks=[none.yaml]"], "tasks has none.yaml, which cannot be read"),
    ],
)
def test_what_cannot_work_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_presets(make_config(*overrides))
    assert "\n" not in str(error.value)


def test_a_list_of_ones_own_is_checked(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("title: Mine\nrows: [{task: sums, metric: acc_norm}]\n")
    (preset,) = read_presets(make_config(f"tasks=[{mine}]"))
    assert (preset.title, preset.rows[0].task, preset.rows[0].filter) == ("Mine", "sums", "none")
    for wrong, message in (
        ("title: Mine\nrows: [{taks: sums}]\n", "taks"),
        ("rows: [{task: sums}]\n", "title"),
        ("title: Mine\n", "which has no rows"),
    ):
        mine.write_text(wrong)
        with pytest.raises(ConfigError, match=message):
            read_presets(make_config(f"tasks=[{mine}]"))


def test_a_row_on_the_command_line_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"which is no name; put rows with metrics into a file"):
        read_presets(make_config("tasks=[{task: gsm8k, metric: exact_match}]"))


def test_the_base_is_what_quantizing_wrote(tmp_path: Path) -> None:
    (tmp_path / "synthgen_quantize.json").write_text('{"model": "builtin:smollm2", "model_revision": null}')
    config = compose_recovery_config([f"model={tmp_path}", "output_dir=x"])
    assert (config.base, config.base_revision) == ("builtin:smollm2", None)
    config = compose_recovery_config([f"model={tmp_path}", "output_dir=x", "base_revision=abc"])
    assert (config.base, config.base_revision) == ("builtin:smollm2", "abc")


def test_tasks_of_lm_eval_that_are_called_like_a_preset_are_tasks() -> None:
    (preset,) = read_presets(make_config("tasks=[humaneval_64]"))
    assert [row.task for row in preset.rows] == ["humaneval_64"]


def test_a_checkpoint_of_the_same_sizes_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    large, template = tmp_path / "model.safetensors", tmp_path / "chat_template.jinja"
    template.write_text("a")
    with large.open("wb") as stream:
        stream.truncate(100 << 20)
    seen = {_hash_checkpoint(tmp_path)}
    template.write_text("b")
    seen.add(_hash_checkpoint(tmp_path))
    with large.open("r+b") as stream:
        stream.seek(-10, 2)
        stream.write(b"x")
    seen.add(_hash_checkpoint(tmp_path))
    assert len(seen) == 3
    assert _hash_checkpoint(tmp_path) in seen


def test_any_file_of_the_tasks_counts_but_none_of_ours(tmp_path: Path) -> None:
    config, output = make_config(f"tasks_dir={tmp_path}"), tmp_path / "out"
    (tmp_path / "group.yaml").write_text("{task: größe}")
    seen = hash_tasks(config, [output])
    (output / "logs").mkdir(parents=True)
    (output / "logs" / "base.log").write_text("said")
    assert hash_tasks(config, [output]) == seen
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "code_eval.py").write_text("x = 1")
    assert hash_tasks(config, [output]) != seen
    assert hash_tasks(make_config(), [output]) is None


@pytest.mark.parametrize(
    ("kinds", "error", "mend"),
    [
        (["DatasetNotFoundError"], "Dataset 'x' is a gated dataset on the Hub", "accept its terms"),
        (["ConnectionError"], "Couldn't reach 'x' on the Hub", "tasks_dir"),
        (["FileNotFoundError"], "Module 'code_eval' doesn't exist on the Hugging Face Hub", "code_eval/code_eval.py"),
        (["KeyError"], "'lm-eval has no task sum'", "lm-eval ls tasks"),
        (["RuntimeError"], "CUDA out of memory", "max_model_len"),
        (["ValueError"], "something else", "^something else$"),
    ],
)
def test_failures_come_with_what_helps(kinds: list[str], error: str, mend: str) -> None:
    assert re.search(mend, explain_task(kinds, error))
    assert explain_memory("something else") == "something else"


def test_a_task_that_ends_the_process_is_missing_and_said_so(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEAVES", "two")
    assert main(list_overrides(tmp_path / "out", "backend=hf")) == 1
    assert "2 of what was asked is missing, the first: base=" in capsys.readouterr().err


@pytest.mark.usefixtures("stand_in")
def test_what_fails_costs_nothing_that_is_done(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task that fails and one that kills the engine are named; started again, only they are asked."""
    output, whole = tmp_path / "out", tmp_path / "whole"
    monkeypatch.setenv("FAILS", "two")
    monkeypatch.setenv("DIES", "three")
    assert main(list_overrides(output, "backend=hf")) == 1
    said = capsys.readouterr().err
    assert "4 of what was asked is missing, the first: base=org/base, two: Couldn't reach the data; " in said
    page = (output / "recovery.md").read_text()
    assert "base=org/base, three failed (status 7)" in page
    assert "model=org/quantized, three failed (status 7)" in page
    assert "| **Tasks** | one (acc, 0-shot) | " in page
    assert stand_in.read_text().count("four") == 2, "what comes after the death is done"
    monkeypatch.delenv("FAILS")
    monkeypatch.delenv("DIES")
    stand_in.write_text("")
    assert main(list_overrides(output, "backend=hf")) == 0
    assert stand_in.read_text().split("\n") == [
        "org/base two", "org/base three", "org/quantized two", "org/quantized three", ""
    ]  # fmt: skip
    assert main(list_overrides(whole, "backend=hf")) == 0
    assert read_figures(output) == read_figures(whole)
    assert "Missing" not in (output / "recovery.md").read_text()


@pytest.mark.usefixtures("stand_in")
def test_a_model_that_cannot_be_loaded_leaves_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNLOADABLE", "org/base")
    assert main(list_overrides(tmp_path / "out", "backend=hf")) == 1
    assert re.search(r"base=org/base failed \(status 1\): .*out of memory; take a smaller", capsys.readouterr().err)
    assert len(list((tmp_path / "out" / "evaluations").rglob("*.json"))) == 4


def test_only_what_figures_depend_on_is_evaluated_anew(tmp_path: Path, stand_in: Path) -> None:
    output = tmp_path / "out"
    assert main(list_overrides(output, "backend=hf")) == 0
    stand_in.write_text("")
    faster = ["backend=hf", "tensor_parallel_size=2", "gpu_memory_utilization=0.5"]
    assert main(list_overrides(output, *faster)) == 0
    assert stand_in.read_text() == ""
    assert main([*list_overrides(output, "backend=hf"), "model=org/other"]) == 0
    assert {line.split()[0] for line in stand_in.read_text().splitlines()} == {"org/other"}, "the base's are there"
    stand_in.write_text("")
    assert main(list_overrides(output, "backend=hf", "limit=7")) == 0
    assert len(stand_in.read_text().splitlines()) == 8
    assert "at most 7 documents" in (output / "recovery.md").read_text()


def test_a_damaged_evaluation_is_named(tmp_path: Path, stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list_overrides(tmp_path / "out", "backend=hf")) == 0
    file = next((tmp_path / "out" / "evaluations").rglob("one-*.json"))
    file.write_text("{")
    assert main(list_overrides(tmp_path / "out", "backend=hf")) == 2
    assert f"{file.name} is damaged; remove it" in capsys.readouterr().err
    assert stand_in.read_text()


def test_a_killed_job_goes_on(tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a task, its worker ends too, and what was done is not done again."""
    output = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; import synthgen.recovery.job as job; "
        "job.ensure_environment = lambda: Path(sys.argv[1]); job.main(sys.argv[2:])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "packages"), *list_overrides(output, "backend=hf")]
    monkeypatch.setenv("WAITS", "two")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: "org/base two" in stand_in.read_text())
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_running(int(child)) for child in children))
    monkeypatch.delenv("WAITS")
    stand_in.write_text("")
    assert main(list_overrides(output, "backend=hf")) == 0
    assert stand_in.read_text().splitlines()[:3] == ["org/base two", "org/base three", "org/base four"]


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not is_there(), reason="lm-eval is fetched by jobs/recovery.py, and has not been")
def test_lm_eval_itself_reads_a_task_of_local_files(tmp_path: Path) -> None:
    """Its own work on the tiny model: data by paths from `tasks_dir`, and a model on either side."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    rows = [{"question": f"{a} + {b}", "choices": [str(a + b), str(a)], "answer": 0} for a in (1, 2, 3) for b in (4, 5)]
    (tasks / "plus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / "plus.yaml").write_text(
        "task: plus\ndataset_path: json\ndataset_kwargs: {data_files: {test: plus.jsonl}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{question}} ="\ndoc_to_choice: "{{choices}}"\n'
        'doc_to_target: "{{answer}}"\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n'
    )
    copy = tmp_path / "quantized"
    copy.mkdir()
    for path in ensure_tiny_model().iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "synthgen_quantize.json").write_text('{"model": "builtin:tiny", "model_revision": null}')
    plus = (tasks / "plus.yaml").read_text()
    for name in ("left", "right"):
        (tasks / f"{name}.yaml").write_text(plus.replace("task: plus", f"task: {name}\ntag: sides"))
    (tasks / "bare.yaml").write_text("group: bare\ntask: [left, right]\n")
    (tasks / "both.yaml").write_text(
        "group: both\ntask: [left, right]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    overrides = [f"model={copy}", f"tasks_dir={tasks}", "backend=hf", "max_model_len=256"]
    refused = (
        ("sides", "sides stands for several tasks and has no figure of its own; name them one by one: left, right"),
        ("bare", "bare stands for several tasks and has no figure of its own; name them one by one: left, right"),
        ("plus, metric: f1", "plus has no metric f1; there are: acc"),
        ("plus, metric: acc, filter: strict", "plus has no filter strict; there are: none"),
        ("both, metric: f1", "both has no metric f1; there are: acc"),
    )
    mine = tmp_path / "mine.yaml"
    mine.write_text("title: Mine\nrows:\n" + "".join(f"  - {{task: {task}}}\n" for task, _ in refused))
    assert main([*overrides, f"tasks=[{mine}]", f"output_dir={tmp_path / 'none'}"]) == 1
    page = (tmp_path / "none" / "recovery.md").read_text()
    assert [message for _, message in refused if message not in page] == []
    assert "loaded" not in (tmp_path / "none" / "logs" / "model.state").read_text()  # before that is paid for
    assert main([*overrides, "tasks=[plus, both]", f"output_dir={tmp_path / 'out'}"]) == 0
    (section,) = json.loads((tmp_path / "out" / VALUES).read_text())["sections"]
    row, both, *_ = section["rows"]
    assert both["documents"] == 12
    assert row["name"] == "plus (acc, 0-shot)"
    assert (row["documents"], row["lost"], row["gained"]) == (6, 0, 0)
    assert row["base"] == row["quantized"]
