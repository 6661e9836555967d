"""A `RunPlan` as text for a terminal and as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from synthgen.planning.disk import format_disk
from synthgen.planning.hardware import describe_cluster
from synthgen.planning.plan import ModelPlan, Range, RunPlan
from synthgen.planning.pools import PoolPlan
from synthgen.planning.prices import GpuPrice, price_usd
from synthgen.planning.sensitivity import Swing
from synthgen.planning.workload import StageWork

_ASSUMPTIONS = {
    "output_length": "tokens per completion (plan.output_tokens; unset: half of max_tokens)",
    "judgement_length": "tokens per judgement (by judge.rationale)",
    "prompt_length": "tokens per prompt",
    "efficiency": "share of the GPU's memory bandwidth that is reached (plan.efficiency)",
}
_WORDS = (
    "TP: GPUs that share each layer of a model; PP: groups of GPUs that take its layers in turn; a replica is a whole",
    "engine on TP × PP GPUs. KV cache: what a GPU remembers of the tokens so far; it limits the sequences at once.",
)
_MODES = {
    "shared": "one pool serves all stages",
    "together": "the pools run together",
    "in_turn": "the pools take turns",
}


def format_plan(plan: RunPlan) -> str:
    """Return the plan as text: machines, each pool's fit, the work of each stage, time and cost."""
    cluster = plan.cluster
    lines = [f"cluster  {cluster.cluster.name}: {describe_cluster(cluster.cluster)}"]
    lines.append(f"pools    {_MODES[cluster.mode]} ({cluster.reason})")
    if any(pool.engine.num_gpus for pool in cluster.pools):
        lines += ["", *_WORDS]
    for pool in cluster.pools:
        lines += ["", *_format_pool(pool, plan.models[pool.name], cluster.cluster.gpu.memory_gib)]
    lines += ["", *_format_work(plan), "", *_format_cost(plan), *_format_bills(plan), *format_disk(plan.disk)]
    return "\n".join(line.rstrip() for line in lines)


def plan_to_json(plan: RunPlan) -> dict[str, Any]:
    """Return the plan as plain JSON values, with the same content as the text."""
    cluster = plan.cluster
    return {
        "cluster": {key: value for key, value in asdict(cluster.cluster).items() if key != "runtime_env"},
        "mode": cluster.mode,
        "reason": cluster.reason,
        "pools": [
            {**asdict(pool), "gpus": pool.engine.gpus, "load_s": pool.load_s, **asdict(plan.models[pool.name])}
            for pool in cluster.pools
        ],
        "stages": {item.name: _work_to_json(item, plan.estimate.stage_s[item.name]) for item in plan.work},
        "estimate": {
            "hours": _range_to_json(plan.hours, plan.estimate.wall_s and plan.estimate.wall_s / 3600),
            "gpu_hours": _range_to_json(plan.gpu_hours, plan.estimate.gpu_hours),
            "usd": _range_to_json((plan.usd[0], plan.usd[2]), plan.usd[1]) if plan.usd else None,
            "gpu_hour_usd": plan.price.middle if plan.price else 0.0,
            "gpu_hour_usd_range": [plan.price.low, plan.price.high] if plan.price else None,
            "gpu_hour_usd_source": plan.price.source if plan.price else None,
            "efficiency": plan.efficiency,
        },
        "disk": {**asdict(plan.disk), "total": plan.disk.total},
        "moves_most": plan.swings[0].name if plan.swings else None,
        "assumptions": [asdict(swing) for swing in plan.swings],
    }


def _format_pool(pool: PoolPlan, model: ModelPlan, memory_gib: float) -> list[str]:
    engine, fit = pool.engine, pool.engine.fit
    lines = [f"{pool.name}  ({pool.model_id})  for {', '.join(pool.stages)}"]
    if model.format:
        cache = f"{model.kv_kib_per_token:,.3g} KiB of KV cache per token, " if model.has_cache else ""
        lines.append(
            f"  {model.format}, {_gib(engine.weights_gib)} of weights, {cache}context {model.context_length:,}"
        )
    if model.runs_code:
        places = f"on {_count(engine.replicas, 'node')}"
        return [*lines, f"  {_count(engine.max_num_seqs, 'process')} at once {places}, which run code and no model"]
    if model.is_service:
        return [*lines, f"  someone else serves it: {_count(engine.max_num_seqs * engine.replicas, 'request')} at once"]
    shape = (
        f"TP {engine.tensor_parallel_size} × PP {engine.pipeline_parallel_size} × {_count(engine.replicas, 'replica')}"
    )
    where = f" on {_count(engine.gpus, 'GPU')}" if engine.num_gpus else ""
    lines.append(f"  {shape}{where}, {_count(engine.max_num_seqs, 'sequence')} at once each")
    if engine.max_model_len and model.has_cache:
        lines.append(
            f"  max_model_len {engine.max_model_len:,}, max_num_batched_tokens {engine.max_num_batched_tokens or 0:,}, "
            f"KV cache {engine.kv_cache_gib:,.1f} GiB = {engine.kv_cache_tokens:,} tokens per replica"
        )
    if fit is not None:
        lines.append(
            f"  each GPU: {fit.weights_gib:.1f} weights + {fit.reserve_gib:.1f} activations, CUDA graphs and buffers "
            f"+ {fit.kv_gib:.1f} KV cache, of {memory_gib:g} GiB"
        )
    return lines + [f"  - {reason}" for reason in engine.reasons]


def _format_work(plan: RunPlan) -> list[str]:
    head = (
        "stage",
        "units",
        "reused",
        "to run",
        "requests",
        "in/request",
        "out/completion",
        "tokens in",
        "out",
        "busy",
    )
    rows = [head]
    for item in plan.work:
        seconds = plan.estimate.stage_s[item.name]
        marks = ["" if name in item.measured else "~" for name in ("input", "output")]
        rows.append(
            (
                item.name,
                f"{item.units_total:,}",
                f"{item.units_done:,}",
                f"{item.units_total - item.units_done:,}",
                f"{item.requests:,.0f}",
                f"{marks[0]}{item.input_tokens:,.0f}",
                f"{marks[1]}{item.output_tokens:,.0f}",
                _short(item.total_input_tokens),
                _short(item.total_output_tokens),
                "?" if seconds is None else _duration(seconds),
            )
        )
    lines = _align(rows)
    lines += [f"{item.name} makes finished units again: {item.again}" for item in plan.work if item.again]
    again = [f"{item.name} {item.asked_again:,}" for item in plan.work if item.asked_again]
    if again:
        lines.append(f"prompts whose failed rows are asked again (run.retry_failed): {', '.join(again)}")
    lines += [
        f"{item.name}: {item.speed_ratio[1]:.2f} times the planned speed, as measured of its model with other settings"
        for item in plan.work
        if item.speed_ratio and item.speed_ratio[0] == plan.cluster.pool_of(item.name).num_gpus
    ]
    taken = [f"{item.name} {item.taken:,}" for item in plan.work if item.taken]
    if taken:
        lines.append(f"prompts whose rows are taken from other runs (run.reuse): {', '.join(taken)}")
    if any(len(item.measured) < 2 for item in plan.work):
        lines.append("~ assumed; finished units replace it by what they measured")
    if not plan.prompts_known:
        lines.append("the prompt table has not been read: planned for 1,000 prompts")
    return lines


def _format_bills(plan: RunPlan) -> list[str]:
    """Return what the tokens of endpoints cost, or which price is not known. A provider bills each sample's prompt."""
    lines = []
    for item in plan.work:
        if not item.model.served_by.is_service or not item.requests:
            continue
        bill = item.bill
        usd = price_usd(item.model, bill)
        tokens = f"tokens   {item.name}: about {bill.input_tokens:,} in, {bill.output_tokens:,} out"
        if usd is None:
            lines.append(
                f"{tokens}; what they cost is not known: set endpoint.usd_per_million_input_tokens and "
                "endpoint.usd_per_million_output_tokens"
            )
        else:
            lines.append(f"{tokens}: about {_dollars(usd)} (endpoint.usd_per_million_*), nothing found in a cache")
    return lines


def _format_cost(plan: RunPlan) -> list[str]:
    if plan.hours is None or plan.estimate.wall_s is None:
        return ["time     not known: no data sheet for these machines; finished units of a run will tell"]
    if plan.estimate.wall_s == 0:
        if any(item.units_total > item.units_done for item in plan.work):
            return ["time     next to none: what is left to run needs no model on a GPU"]
        return ["time     none: nothing is left to do"]
    span, about = _hours_range(plan.hours), f"about {_duration(plan.estimate.wall_s)}"
    lines = [f"time     {about if _is_narrow(span) else f'{span}, {about}'}, loading of models counted"]
    if plan.gpu_hours is not None:
        middle = plan.estimate.gpu_hours or 0.0
        span = f"{plan.gpu_hours[0]:,.1f} to {plan.gpu_hours[1]:,.1f}"
        about = f"about {middle:,.1f}"
        lines.append(f"GPUs     {about} GPU-hours" if _is_narrow(span) else f"GPUs     {span} GPU-hours, {about}")
        if plan.usd is not None and plan.price is not None:
            low, middle, high = plan.usd
            lines.append(
                f"cost     {_dollars(low)} to {_dollars(high)}, about {_dollars(middle)}, "
                f"at {_format_price(plan.price)} per GPU-hour ({plan.price.source})"
            )
        else:
            lines.append("cost     set cluster.gpu_hour_usd to see dollars")
    outside = [item for item in plan.work if plan.estimate.stage_s[item.name] is None]
    for whose, here in (("the endpoint's", True), ("engine=transformers, whose", False)):
        names = [item.name for item in outside if item.model.served_by.is_service is here]
        if names:
            lines.append(f"without  {', '.join(names)}: {whose} speed is not known here")
    unit = "GPU-hours" if plan.gpu_hours is not None else "s"
    shown = [swing for swing in plan.swings if not _is_narrow(_format_outcomes(swing))]
    for index, swing in enumerate(shown):
        lines.append(("most by  " if index == 0 else "also by  ") + _format_swing(swing, unit))
    if plan.swings and not shown:
        lines.append("most by  loading the models: lengths and speeds that are assumed change none of these numbers")
    return lines


def _format_price(price: GpuPrice) -> str:
    one = f"${price.low:,.2f}"
    return one if price.low == price.high else f"{one} to ${price.high:,.2f}"


def _is_narrow(span: str) -> bool:
    """Whether a range reads the same at both ends."""
    low, _, high = span.partition(" to ")
    return low == high


def _format_outcomes(swing: Swing) -> str:
    return f"{swing.outcomes[0]:,.1f} to {swing.outcomes[1]:,.1f}"


def _format_swing(swing: Swing, unit: str) -> str:
    low, high = swing.factors
    state = "measured" if swing.measured else "assumed"
    return (
        f"{_ASSUMPTIONS[swing.name]}, {state}: {_format_outcomes(swing)} {unit} between {low:g} and {high:g} times that"
    )


def _work_to_json(item: StageWork, seconds: float | None) -> dict[str, Any]:
    return {
        "units": item.units_total,
        "units_reused": item.units_done,
        "units_to_run": item.units_total - item.units_done,
        "again": item.again,
        "prompts_to_run": item.prompts,
        "prompts_asked_again": item.asked_again,
        "prompts_taken": item.taken,
        "requests": item.requests,
        "completions_per_request": item.completions,
        "input_tokens_per_request": item.input_tokens,
        "output_tokens_per_completion": item.output_tokens,
        "input_tokens": item.total_input_tokens,
        "output_tokens": item.total_output_tokens,
        "measured": list(item.measured),
        "busy_s": seconds,
        "usd": price_usd(item.model, item.bill),
    }


def _range_to_json(values: Range | None, middle: float | None) -> dict[str, float] | None:
    return None if values is None or middle is None else {"low": values[0], "middle": middle, "high": values[1]}


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:,.2f}"


def _gib(amount: float) -> str:
    return f"{amount:,.1f} GiB" if amount >= 0.1 else f"{amount * 1024:.2g} MiB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def _short(number: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _hours_range(hours: Range) -> str:
    return f"{_duration(hours[0] * 3600)} to {_duration(hours[1] * 3600)}"
