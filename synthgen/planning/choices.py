"""One model, every format of it in the catalog, on one cluster: what fits, in which memory, how fast, at which loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.errors import ConfigError
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.quantization import Quantization
from synthgen.planning.catalog import SHORT_DTYPES, base_name, load_models, nearest_models
from synthgen.planning.classifier_placement import settle_dtype
from synthgen.planning.fit import Lengths
from synthgen.planning.hardware import resolve_cluster
from synthgen.planning.memory import GIB, weights_bytes
from synthgen.planning.placement import plan_engine

STUDY = "arXiv 2411.02355"
"""Kurtic et al., half a million evaluations of Llama 3.1 8B, 70B and 405B in three formats."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a format costs in quality: `tier` orders (0: nothing found), `text` says how much, and who measured it."""

    tier: int
    text: str


LOSSES = {
    "": Loss(0, "none: the weights as published"),
    "fp8": Loss(0, f"none that was found ({STUDY})"),
    "int8": Loss(1, f"1 to 3% of the scores, if well calibrated ({STUDY})"),
    "int4": Loss(1, f"about that of INT8 ({STUDY})"),
    "mxfp4": Loss(0, "none: the weights as published"),
    "nvfp4": Loss(1, "not known here; NVIDIA's cards name it for each model"),
    "mxfp4-made": Loss(1, "not known here"),
    "gguf": Loss(2, "Q4_K_M: perplexity 8.02 for 7.93 on Qwen2 7B (card of Qwen2-7B-Instruct-GGUF)"),
    "nf4": Loss(2, "not known here"),
}


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """One entry of the catalog on the cluster. `problem`: why it cannot be served there; empty: it can.

    Attributes:
        gpus: of one replica. tokens_per_s: output tokens of all replicas; None where no data sheet tells.
    """

    name: str
    format: str
    weights_gib: float
    loss: Loss
    gpus: int = 0
    replicas: int = 0
    tokens_per_s: float | None = None
    problem: str = ""


def list_formats(name: str, cluster: ClusterConfig) -> list[FormatChoice]:
    """Return the formats of the model `name`, best first: those that fit, least loss first, then the fastest.

    Raises:
        ConfigError: the catalog has no such model.
    """
    base = base_name(name)
    entries = [model for model in load_models() if base_name(model.name) == base and model.architecture]
    if not entries:
        near = " or ".join(nearest_models(name)) or "what synthgen models lists"
        raise ConfigError(f"model={name} is not in the catalog, or has no numbers there; try {near}")
    found = [_choose(model, resolve_cluster(cluster)) for model in entries]
    return sorted(found, key=lambda one: (bool(one.problem), one.loss.tier, -(one.tokens_per_s or 0), one.weights_gib))


def format_choices(choices: Sequence[FormatChoice], cluster: str) -> str:
    """Return the choices as a table for a terminal, what does not fit below it."""
    head = ("model", "format", "weights GiB", "GPUs", "replicas", "output tok/s", "expected loss")
    rows = [head]
    for one in choices:
        if not one.problem:
            speed = f"{one.tokens_per_s:,.0f}" if one.tokens_per_s else "?"
            gpus = str(one.gpus) if one.gpus else "CPU"
            rows.append((one.name, one.format, f"{one.weights_gib:.1f}", gpus, str(one.replicas), speed, one.loss.text))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        f"on {cluster}, best first: least loss, then speed (texts of 512 tokens, by data sheets)",
        "",
    ]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", *(f"{one.name} ({one.format}): {one.problem}" for one in choices if one.problem)]
    return "\n".join(lines).rstrip()


def _choose(model: ModelConfig, cluster: ClusterConfig) -> FormatChoice:
    arch = resolve_architecture(settle_dtype(model))
    label = arch.quantization.label if arch.quantization.method else SHORT_DTYPES.get(arch.dtype, arch.dtype)
    choice = FormatChoice(model.name, label, weights_bytes(arch) / GIB, LOSSES[_kind(arch.quantization)])
    lengths = Lengths()
    try:
        plan = plan_engine(model, cluster, lengths=lengths, efficiency=0.65)
    except ConfigError as error:
        return replace(choice, problem=str(error).removeprefix(f"model={model.name} "))
    rate = plan.speed.output_rate(lengths.prompt, lengths.output) * plan.replicas if plan.speed else None
    return replace(choice, gpus=plan.num_gpus, replicas=plan.replicas, tokens_per_s=rate)


def _kind(quantization: Quantization) -> str:
    if quantization.method in ("", "mxfp4", "gguf"):
        return quantization.method
    if quantization.method == "bitsandbytes":
        return "nf4"
    if quantization.kind.endswith("FP4"):
        return "nvfp4" if quantization.kind == "NVFP4" else "mxfp4-made"
    return quantization.compute if quantization.compute in ("fp8", "int8") else "int4"
