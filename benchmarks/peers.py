"""3. Against peers on the same engine: ray.data.llm and distilabel, each at its default and at its best batch size.

One completion per prompt (ray.data.llm returns only the first of several), tiny model, long-tailed lengths, the same
prompts, engine arguments and environment. Every contender loads once and warms up on a pass of its own; then they take
turns on passes of new prompts. A rate goes from the first request of a pass to its last file, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.engines import Engines
from benchmarks.generate import Case, make_stages, prepare_requests
from benchmarks.outcome import Outcome, Target, interleave, median, ratios, spread
from benchmarks.peer_process import Peer, PeerProcess
from benchmarks.work import write_prompts
from synthgen.engines.vllm_args import make_cpu_environment, make_engine_args
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import RunDir, unit_path
from synthgen.models.tiny import ensure_tiny_model
from synthgen.planning import plan_pools
from synthgen.runtime.session import pool_specs

NOTES = (
    "In: a contender's pass from the first call of its engine to the last of its Parquet files, with all that it does "
    "in between.",
    "Out: starting, loading, a pass to warm up, reading prompts, and what precedes the first call: the first batch's "
    "chat template and, but for distilabel, its tokenization.",
    "Alike: prompts, engine arguments and environment, temperature, top_p, max_tokens. Seeds: ours and ray.data.llm "
    "have one per request, distilabel has none, which spares it their cost.",
    "Ratios are medians (lowest-highest) over repetitions in which the contenders of a tool take turns with ours.",
)

RAY_DATA = ("benchmarks.peer_ray_data", "tokens")
DISTILABEL = ("benchmarks.peer_distilabel", "distilabel_metadata.statistics_text_generation_0.output_tokens")

CASE, QUICK = Case("tiny", 1, 1600, 2), Case("tiny", 1, 800, 1)


def list_peers(prompts: int) -> tuple[tuple[Peer, ...], ...]:
    """Return the contenders by tool; a pass of `prompts` is a whole number of batches for each.

    A default is what the tool takes unasked: 32 rows a batch and the small blocks that `from_items` makes; 50 rows a
    batch. A best is the fastest of a sweep over batches of 32 to 1,600 rows (docs/performance.md).
    """
    return (
        (
            Peer("ray.data.llm, default", *RAY_DATA, 1.8, 32, 320, {"block_rows": 8}),
            Peer("ray.data.llm, best", *RAY_DATA, 1.8, 800, 800, {"block_rows": 32}),
        ),
        (
            Peer("distilabel, default", *DISTILABEL, 1.5, 50, 300, {}),
            Peer("distilabel, best", *DISTILABEL, 1.15, prompts, prompts, {}),
        ),
    )


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return our speed over each peer's."""
    case = QUICK if quick else CASE
    ours: list[float] = []
    rows: list[dict[str, Any]] = []
    targets = []
    work = describe_work(engines, case)
    config, stages = make_stages(engines, case)
    engines.load(config, stages)
    run_ours(engines, case, 0)
    for peers in list_peers(case.prompts):
        found = compare(engines, case, work, peers)
        ours += found["synthgen"]
        for peer in peers:
            relative = ratios(found["synthgen"], found[peer.name])
            rows.append(
                {
                    "contender": peer.name,
                    "batch size": str(peer.batch_size),
                    "tokens/s": spread(found[peer.name], 0),
                    "ours / theirs": spread(relative),
                }
            )
            targets.append(Target(f"ours / {peer.name}", median(relative), peer.target))
    rows.insert(0, {"contender": "synthgen", "batch size": "", "tokens/s": spread(ours, 0), "ours / theirs": "1"})
    title = f"{case.prompts:,} prompts, n=1, output tokens per second from first request to last file"
    return Outcome("peers", title, rows, targets, NOTES)


def compare(engines: Engines, case: Case, work: dict[str, Any], peers: tuple[Peer, ...]) -> dict[str, list[float]]:
    """Return the rates of the project and of `peers`, which take turns, by name and repetition."""
    done = 0

    def run_next() -> float:
        nonlocal done
        done += 1
        return run_ours(engines, case, done)

    contenders: dict[str, Callable[[], float]] = {"synthgen": run_next}
    with ExitStack() as stack:
        running = [stack.enter_context(PeerProcess(peer, engines.new_directory(), work)) for peer in peers]
        for process in running:
            process.run_pass()
            contenders[process.peer.name] = process.run_pass
        return interleave(contenders, case.repetitions)


def run_ours(engines: Engines, case: Case, number: int) -> float:
    """Return our output tokens per second in a pass."""
    config, stages = make_stages(engines, case, _prompts(engines, case, number))
    report = engines.run(config, stages)["generate-main"]
    run_dir = RunDir(config.run.dir)
    directory = stages[0].files.directory
    units = range(report["units"])
    began = min(run_dir.read_counts(directory, unit).started_at for unit in units)
    ended = max((Path(config.run.dir) / unit_path(directory, unit)).stat().st_mtime for unit in units)
    return float(report["output_tokens"] / (ended - began))


def describe_work(engines: Engines, case: Case) -> dict[str, Any]:
    """Return what peers are given: rows of the warm-up, of each repetition, and of an end of one row."""
    passes = []
    for number in range(case.repetitions + 2):
        config, stages = make_stages(engines, case, _prompts(engines, case, number))
        Path(config.run.dir).mkdir()
        ingest_prompts(RunDir(config.run.dir), config)
        requests = prepare_requests(config, stages[0])
        passes.append([{"pass": number, "prompt": r.messages[-1]["content"], "seed": r.seed} for r in requests])
    del passes[-1][1:]
    plan = plan_pools(config, config.cluster, stages={s.name: s.files.stage.model for s in stages})
    spec = pool_specs(plan, stages)[0]
    args = make_engine_args(
        spec.model, path=str(ensure_tiny_model()), on_cpu=True, context_length=spec.model.max_model_len
    )
    del args["enable_log_requests"]  # of the asynchronous engine only
    sampling = requests[0].sampling
    return {
        "passes": passes,
        "n": case.n,
        "sampling": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        },
        "engine_args": args,
        "environment": make_cpu_environment(cpus=int(spec.num_cpus), processes=1),
    }


def _prompts(engines: Engines, case: Case, number: int) -> str:
    """Return the override that gives a run the prompts of a pass: new ones, which no prefix cache has seen."""
    path = engines.directory / f"pass-{number}.jsonl"
    if not path.exists():
        write_prompts(path, case.prompts, first=number * case.prompts)
    return f"prompts.path={path}"
