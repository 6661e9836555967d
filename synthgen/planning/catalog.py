"""The catalog `conf/model/`: its entries as `ModelConfig`s, and what `synthgen models` says of each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.config.resources import project_path
from synthgen.models.architecture import Architecture
from synthgen.models.checkpoint import resolve_architecture
from synthgen.models.tensors import count_active_parameters, count_parameters
from synthgen.planning.classifier_placement import settle_dtype
from synthgen.planning.fit import Fit, Lengths, fit_model
from synthgen.planning.hardware import list_gpu_kinds
from synthgen.planning.memory import GIB, kv_bytes_per_token, weights_bytes
from synthgen.planning.splits import Splitting, list_tensor_parallel_sizes

CPU_WEIGHTS_GIB = 2.0
"""A model of at most so many GiB, in a format that CPUs serve, is said to need no GPU."""
SHORT_DTYPES = {"bfloat16": "BF16", "float16": "FP16", "float32": "FP32"}
FORMAT_SUFFIX = re.compile(r"-(fp8|nvfp4|mxfp4|w8a8|w4a16|awq-int4|gptq-int4|int4|bnb-nf4|gguf)$")
SINGLE = ("GB10",)
"""GPUs that come one in a machine."""
SMALLEST_SEQS = 8
"""A set-up counts as one that serves a model if its KV cache holds so many sequences of 1,024 tokens."""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One line of `synthgen models`. Numbers are 0 for entries without a checkpoint of their own.

    Attributes:
        parameters: of the unquantized model. active_parameters: that one token is multiplied with.
        weights_gib: of one copy, as stored. kv_kib_per_token: in the cache's default number format.
        smallest: the set-up with the least GPU memory that serves it, such as `2 × A100-80`; empty: none needed.
        note: why it cannot be served as it is, or what it needs first.
    """

    name: str
    id: str
    engine: str
    parameters: int = 0
    active_parameters: int = 0
    format: str = ""
    weights_gib: float = 0.0
    kv_kib_per_token: float = 0.0
    context_length: int = 0
    license: str = "unknown"
    gated: bool = False
    smallest: str = ""
    note: str = ""


def list_models(conf_dir: Path | None = None) -> list[ModelSummary]:
    """Return the entries of the catalog, by name.

    Args:
        conf_dir: the directory that holds `model/`; None: the shipped one.
    """
    return [summarize_model(model) for model in load_models(conf_dir)]


def load_models(conf_dir: Path | None = None) -> Sequence[ModelConfig]:
    """Return the entries of the catalog as `ModelConfig`s, by name; an `id` that is the user's to give is empty."""
    return _load_models(str(conf_dir or project_path("conf")))


def summarize_model(model: ModelConfig) -> ModelSummary:
    """Return the summary of one entry."""
    needs = f"needs pip install {model.requires_package}" if model.requires_package else ""
    doubts = f"unchecked: {model.unchecked}" if model.unchecked else ""
    version = f"needs vLLM {model.min_vllm} or later" if model.min_vllm else ""
    seen = f"seen to run with vLLM {model.seen_vllm}" if model.seen_vllm else ""
    note = model.unservable or "; ".join(part for part in (needs, model.provenance, doubts, version, seen) if part)
    common: dict[str, Any] = {"license": model.license, "gated": model.gated, "note": note}
    if not model.served_by.loads_checkpoint or not model.id:
        return ModelSummary(model.name, model.id, model.engine, **common)
    cached = not model.served_by.without_vllm
    arch = resolve_architecture(settle_dtype(model))
    return ModelSummary(
        name=model.name,
        id=model.id,
        engine=model.engine,
        parameters=count_parameters(arch),
        active_parameters=count_active_parameters(arch),
        format=arch.quantization.label if arch.quantization.method else SHORT_DTYPES.get(arch.dtype, arch.dtype),
        weights_gib=weights_bytes(arch) / GIB,
        kv_kib_per_token=kv_bytes_per_token(arch, model.kv_cache_dtype) / 1024 if cached else 0.0,
        context_length=arch.context_length,
        smallest="" if model.unservable else find_smallest_setup(arch, model),
        **common,
    )


def format_models(models: Sequence[ModelSummary]) -> str:
    """Return the catalog as a table for a terminal."""
    head = ("model", "params", "format", "weights GiB", "KV KiB/token", "context", "smallest GPUs", "licence", "id")
    rows = [head]
    for model in models:
        own = model.weights_gib > 0
        size = f"{model.parameters / 1e12:.3g}T" if model.parameters >= 1e12 else f"{model.parameters / 1e9:.3g}B"
        size = size if model.parameters >= 1e8 else f"{model.parameters / 1e6:.2g}M"
        if own and model.active_parameters < 0.5 * model.parameters and model.parameters > 1e9:
            size += f" (A{model.active_parameters / 1e9:.{2 if model.active_parameters < 1e11 else 3}g}B)"
        rows.append(
            (
                model.name,
                size if own else "",
                model.format,
                f"{model.weights_gib:.1f}" if own else "",
                f"{model.kv_kib_per_token:.3g}" if own else "",
                f"{model.context_length:,}" if own else "",
                model.smallest,
                model.license + (", gated" if model.gated else ""),
                model.id or "yours to give: …model.id=…",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{model.name}: {model.note}" for model in models if model.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def models_to_json(models: Sequence[ModelSummary]) -> list[dict[str, Any]]:
    """Return the catalog as plain JSON values."""
    return [asdict(model) for model in models]


def nearest_models(name: str, conf_dir: Path | None = None) -> list[str]:
    """Return up to three names of the catalog that are like `name`, the nearest first."""
    known = [path.stem for path in _list_files(str(conf_dir or project_path("conf")))]
    return difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)


def find_smallest_setup(arch: Architecture, model: ModelConfig) -> str:
    """Return the set-up of one node (else two) with the least GPU memory that serves the model; empty: none."""
    if weights_bytes(arch) / GIB <= CPU_WEIGHTS_GIB and arch.quantization.on_cpu:
        return "CPU"
    cluster = find_smallest_cluster(arch, model)
    return name_setup(cluster) if cluster is not None else ""


def find_smallest_cluster(arch: Architecture, model: ModelConfig) -> ClusterConfig | None:
    """Return the machines of one node (else two) with the least GPU memory that serve the model; None: none do."""
    for nodes in (1, 2):
        found: list[tuple[float, float, str, ClusterConfig]] = []
        for gpu in list_gpu_kinds().values():
            # The same GPU as another, with slower links; and what AMD's build of vLLM serves was not tried.
            if gpu.name.endswith("PCIe") or gpu.name.startswith("MI"):
                continue
            for count in (1, 2, 4, 8):
                cluster = ClusterConfig(nodes=nodes, gpus_per_node=count, gpu=gpu)
                memory = nodes * count * gpu.memory_gib
                if gpu.name in SINGLE and (count > 1 or nodes > 1):
                    break
                if memory * GIB < weights_bytes(arch) or (found and memory > min(one[0] for one in found)):
                    continue
                if any(_serves(fit) for fit in _split(arch, model, cluster, count, nodes)):
                    found.append((memory, gpu.bandwidth_gb_s, gpu.name, cluster))
                    break
        if found:
            return min(found, key=lambda one: one[:3])[3]
    return None


def name_setup(cluster: ClusterConfig) -> str:
    """Return machines in words, such as `2 × A100-80`."""
    name = f"{cluster.gpus_per_node} × {cluster.gpu.name}"
    return name if cluster.nodes == 1 else f"{cluster.nodes} nodes of {name}"


def base_name(name: str) -> str:
    """Return a catalog name without its format: `llama-3.3-70b-fp8` and `llama-3.3-70b-w8a8` are one model."""
    return FORMAT_SUFFIX.sub("", name)


def _split(arch: Architecture, model: ModelConfig, cluster: ClusterConfig, count: int, stages: int) -> Iterator[Fit]:
    if count in list_tensor_parallel_sizes(arch, count):
        yield fit_model(arch, model, cluster, Splitting(count, stages), Lengths())


def _serves(fit: Fit) -> bool:
    return fit.fits and fit.concurrent_seqs >= SMALLEST_SEQS


def _list_files(conf_dir: str) -> list[Path]:
    return sorted((Path(conf_dir) / "model").glob("*.yaml"), key=lambda path: path.stem)


@lru_cache(maxsize=4)
def _load_models(conf_dir: str) -> tuple[ModelConfig, ...]:
    return tuple(_load_model(path) for path in _list_files(conf_dir))


def _load_model(path: Path) -> ModelConfig:
    """Return an entry as Hydra composes it: `group[@place]: option` of its defaults, then its own keys."""
    own = OmegaConf.load(path)
    assert isinstance(own, DictConfig)
    defaults = own.pop("defaults", None) or []
    merged: Any = OmegaConf.structured(ModelConfig)
    for entry in defaults:
        if isinstance(entry, DictConfig):
            for choice, option in entry.items():
                group, _, place = str(choice).partition("@")
                node = OmegaConf.load(path.parent / group / f"{option}.yaml")
                for part in reversed((place or group).split(".")):
                    node = OmegaConf.create({part: node})
                merged = OmegaConf.merge(merged, node)
    merged = OmegaConf.merge(merged, own)
    if OmegaConf.is_missing(merged, "id"):
        merged.id = ""
    model = OmegaConf.to_object(merged)
    assert isinstance(model, ModelConfig)
    return model
