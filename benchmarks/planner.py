"""How near the planner's tokens per second are to what others measured with vLLM, and the fit of its free numbers.

    python -m benchmarks.planner [--fit]

In: `throughput.json`, published measurements and where each was read. Out: planned/measured of every row, and how far
they are off for the sources that the numbers of `planning/roofline.py` were fitted to and for those that were held out.
A source is held out if the SHA-256 of its address is divisible by three: no source stands on both sides.

`--fit` looks for the numbers anew, on the former only, and prints them; nothing is written. The sum of the absolute
logarithms of planned/measured is made least, each source weighing as much as the root of its rows, by coordinate
descent: rows of one source share their flaws, and single ones are far off for reasons that no model knows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from synthgen.config import ClusterConfig, GpuConfig, ModelConfig
from synthgen.models.architecture import Architecture
from synthgen.planning import Lengths, list_gpu_kinds, load_models, resolve_architecture
from synthgen.planning.fit import LARGE_GPU_GIB, fit_model
from synthgen.planning.roofline import EFFICIENCY, VLLM, Shares, estimate_speed
from synthgen.planning.splits import Splitting

DATA = Path(__file__).parent / "throughput.json"
HELD_OUT = 3
"""One source in so many is held out."""
UTILIZATION = 0.9
GRAPHS_COUNTED = (0, 20)
"""vLLM's `gpu_memory_utilization` in these versions, and the first that takes CUDA graphs off the KV cache."""

START = {
    "compute": 0.8,
    "decline": 0.3,
    "link": 0.67,
    "all_reduce_s": 25e-6,
    "routing_s": 50e-6,
    "grouped": 0.8,
    "amd": 0.6,
}
PULL = 1.0
"""The free numbers: where the fit starts, and how strongly it is pulled there, per squared logarithm, so that what few
rows tell moves little. `compute`, `link` and `all_reduce_s` start where NVIDIA's figures for TensorRT-LLM have them."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One published figure.

    Attributes:
        url: where it was read. vllm: the version that it names; empty: none. offline: without an HTTP server.
        model: of the catalog, or of the file's `models`. quantization: empty: the checkpoint's; `bf16`: none.
        prompt_tokens, output_tokens: means, of one request and its completion.
        sequences: most that ran at once by the benchmark's or the server's limit; the KV cache may hold fewer.
        requests: of the whole benchmark. output_tokens_per_s: of the replica.
    """

    url: str
    vllm: str
    offline: bool
    model: str
    quantization: str
    gpu: str
    tensor_parallel_size: int
    kv_cache_dtype: str
    prompt_tokens: float
    output_tokens: float
    sequences: int
    requests: int
    output_tokens_per_s: float

    @property
    def held_out(self) -> bool:
        """Whether the numbers were not fitted to it."""
        return int(hashlib.sha256(self.url.encode()).hexdigest(), 16) % HELD_OUT == 0


def read_measurements(path: Path = DATA) -> list[Measurement]:
    """Return the rows of the file, in its order."""
    data = json.loads(path.read_text(encoding="utf-8"))
    names = data["columns"][1:]
    return [Measurement(**data["sources"][row[0]], **dict(zip(names, row[1:], strict=True))) for row in data["rows"]]


def predict(row: Measurement, efficiency: float = EFFICIENCY, shares: Shares = VLLM) -> float:
    """Return the output tokens/s that the planner gives the replica of `row`."""
    arch, gpu, sequences = _set_up(row)
    speed = estimate_speed(
        arch,
        gpu,
        tensor_parallel_size=row.tensor_parallel_size,
        sequences=sequences,
        context_tokens=row.prompt_tokens + row.output_tokens / 2,
        kv_cache_dtype=row.kv_cache_dtype,
        efficiency=efficiency,
        shares=shares,
    )
    assert speed is not None
    return speed.output_rate(row.prompt_tokens, row.output_tokens)


def is_mixture(row: Measurement) -> bool:
    """Whether the model of `row` has experts."""
    return _set_up(row)[0].experts is not None


def fit_shares(rows: Sequence[Measurement]) -> Shares:
    """Return the shares with which planned/measured of `rows` is nearest to 1."""
    counts = Counter(row.url for row in rows)
    values = dict(START)

    def loss(tried: dict[str, float]) -> float:
        shares = replace(VLLM, **tried)
        errors = [
            abs(math.log(predict(row, shares=shares) / row.output_tokens_per_s)) / math.sqrt(counts[row.url])
            for row in rows
        ]
        return sum(errors) + PULL * sum(math.log(tried[name] / START[name]) ** 2 for name in START)

    best = loss(values)
    factor = 1.25
    while factor > 1.01:
        before = best
        for name in values:
            best = _descend(values, name, factor, best, loss)
        if best > 0.999 * before:
            factor = math.sqrt(factor)
    return replace(VLLM, **values)


def _descend(
    values: dict[str, float], name: str, factor: float, best: float, loss: Callable[[dict[str, float]], float]
) -> float:
    """Move one number up or down by `factor` for as long as that helps; return the loss that is left."""
    for step in (factor, 1 / factor):
        while True:
            tried = {**values, name: values[name] * step}
            if name in ("grouped", "amd") and tried[name] > 1:
                break
            now = loss(tried)
            if now >= best - 1e-9:
                break
            values[name], best = tried[name], now
    return best


@lru_cache(maxsize=512)
def _set_up(row: Measurement) -> tuple[Architecture, GpuConfig, int]:
    """Return the model, the GPU and how many sequences run at once, as the benchmark's vLLM would have it."""
    gpu = list_gpu_kinds()[row.gpu]
    model = replace(_find_model(row), max_num_seqs=row.sequences, max_num_batched_tokens=_choose_step(row, gpu))
    arch = resolve_architecture(model)
    cluster = ClusterConfig(nodes=1, gpus_per_node=8, gpu=gpu)
    tokens = int(row.prompt_tokens + row.output_tokens)
    lengths = Lengths(row.prompt_tokens, row.output_tokens, tokens)
    fit = fit_model(arch, model, cluster, Splitting(row.tensor_parallel_size), lengths)
    return arch, gpu, max(1, min(row.sequences, fit.concurrent_seqs))


def _find_model(row: Measurement) -> ModelConfig:
    model = _list_models()[row.model]
    if row.quantization == "bf16":
        plain = {key: value for key, value in model.architecture.items() if key != "quantization_config"}
        model = replace(model, architecture=plain)
    elif row.quantization:
        model = replace(model, quantization=row.quantization)
    version = tuple(int(part) for part in row.vllm.split(".")[:2]) if row.vllm else (0, 0)
    return replace(
        model,
        kv_cache_dtype=row.kv_cache_dtype,
        gpu_memory_utilization=UTILIZATION,
        enforce_eager=version < GRAPHS_COUNTED,
    )


@lru_cache(maxsize=1)
def _list_models() -> dict[str, ModelConfig]:
    own: dict[str, dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))["models"]
    catalog = {model.name: model for model in load_models()}
    return {**catalog, **{name: ModelConfig(name=name, id=name, architecture=arch) for name, arch in own.items()}}


def _choose_step(row: Measurement, gpu: GpuConfig) -> int:
    """Return vLLM's own `max_num_batched_tokens` (`EngineArgs._set_default_max_num_seqs_and_batched_tokens_args`)."""
    large = gpu.memory_gib >= LARGE_GPU_GIB and "A100" not in gpu.name
    if row.offline:
        return 16384 if large else 8192
    return 8192 if large else 2048


def describe_errors(ratios: Sequence[float]) -> str:
    """Return how far planned/measured is from 1, in words."""
    logs = sorted(math.log(ratio) for ratio in ratios)
    low, high = (math.exp(logs[round(share * (len(logs) - 1))]) for share in (0.05, 0.95))
    within = sum(abs(log) <= math.log(1.5) for log in logs) / len(logs)
    return (
        f"{len(logs)} rows, median {math.exp(statistics.median(logs)):.2f}, typically off by a factor of "
        f"{math.exp(statistics.median(map(abs, logs))):.2f}, nine of ten from {low:.2f} to {high:.2f}, "
        f"{within:.0%} within a factor of 1.5"
    )


def main() -> int:
    """Print the table and the errors; with --fit the numbers that fit best."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__.partition("\n")[0])
    parser.add_argument("--fit", action="store_true", help="look for the numbers anew")
    options = parser.parse_args()
    rows = read_measurements()
    shares = VLLM
    if options.fit:
        shares = fit_shares([row for row in rows if not row.held_out])
        print(f"{shares}\n")
    parts: dict[str, list[float]] = {}
    for row in rows:
        planned = predict(row, shares=shares)
        ratio = planned / row.output_tokens_per_s
        side = "held out" if row.held_out else "fitted"
        parts.setdefault(f"{side}, {'mixtures' if is_mixture(row) else 'dense'}", []).append(ratio)
        parts.setdefault(side, []).append(ratio)
        name = f"{row.model}{f' ({row.quantization})' if row.quantization else ''}"
        where = f"{row.tensor_parallel_size} x {row.gpu}"
        print(
            f"{name:32} {where:14} {row.prompt_tokens:7,.0f} {row.output_tokens:6,.0f} {row.sequences:5,} "
            f"{row.output_tokens_per_s:9,.1f} {planned:9,.1f} {ratio:5.2f}  {side:8}  {row.url}"
        )
    print()
    for part, ratios in sorted(parts.items()):
        print(f"{part}: {describe_errors(ratios)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
