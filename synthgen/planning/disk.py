"""The disk that a run takes: by what committed units take per prompt, else by tokens.

    unit's file = fixed + rows × per row + tokens × per token

The constants are fitted to files of runs on the `echo` engine (zstd, 16 and 64 prompts a unit) and rounded. Other text
compresses otherwise, and prompts that carry much metadata take more: finished units replace what is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthgen.config import Config
from synthgen.planning.workload import DEFAULT_PROMPT_TOKENS, StageLedger, StageWork

FILE_BYTES = {"generations": 5700.0, "judgements": 8500.0, "scores": 3000.0, "task": 5700.0}
"""Schema and footer of a unit's file."""
PROMPT_FILE_BYTES = 2800.0
ROW_BYTES = 14.0
TOKEN_BYTES = 2.1
DATASET_TOKEN_BYTES = 3.3
"""A data set's files are compressed for speed of reading."""
DATASET_FIXED_BYTES = 100_000.0
"""The card, its pictures and the manifest."""


@dataclass(frozen=True, slots=True)
class DiskForecast:
    """Bytes that a run directory takes once the run is complete.

    Attributes:
        prompts, dataset: of `prompts/` and `dataset/`. stages: of the units of each stage.
        left: of all that, what is not there yet; the data set is written anew in any case.
        measured: stages, `prompts` and `dataset` that committed files tell; the others are assumed by tokens.
        free: on the disk of the run directory; None: an object store, or not known.
    """

    prompts: float
    stages: Mapping[str, float]
    dataset: float
    left: float
    measured: tuple[str, ...]
    free: int | None = None

    @property
    def total(self) -> float:
        """All of it."""
        return self.prompts + sum(self.stages.values()) + self.dataset


def forecast_disk(config: Config, work: Sequence[StageWork], ledger: Mapping[str, StageLedger]) -> DiskForecast:
    """Return what the run of `work` takes on the disk."""
    known = next(iter(ledger.values()), StageLedger())
    total = _count_prompts(work, ledger)
    units = max((item.units_total for item in work), default=0)
    measured: list[str] = []
    stages: dict[str, float] = {}
    left = 0.0
    for item in work:
        entry = ledger.get(item.name, StageLedger())
        if entry.file_bytes is not None:
            measured.append(item.name)
            stages[item.name] = total * entry.file_bytes
        else:
            per_prompt = item.requests * item.completions / item.prompts if item.prompts else 0.0
            rows = total * per_prompt
            written = units * FILE_BYTES.get(item.kind or "generations", FILE_BYTES["generations"])
            stages[item.name] = written + rows * (ROW_BYTES + item.output_tokens * TOKEN_BYTES)
        left += stages[item.name] * (item.prompts / total if total else 0.0)
    if known.prompt_file_bytes is not None:
        measured.append("prompts")
        prompts = total * known.prompt_file_bytes
    else:
        tokens = DEFAULT_PROMPT_TOKENS if known.prompt_tokens is None else known.prompt_tokens
        prompts = units * PROMPT_FILE_BYTES + total * (ROW_BYTES + tokens * TOKEN_BYTES)
        left += prompts
    if known.dataset_bytes is not None:
        measured.append("dataset")
        dataset = total * known.dataset_bytes
    else:
        dataset = _assume_dataset(config, work, total)
    return DiskForecast(prompts, stages, dataset, left + dataset, tuple(measured), known.free_bytes)


def format_disk(disk: DiskForecast) -> list[str]:
    """Return what the run takes on the disk, and a warning where there is less room than that."""
    parts = {"prompts": disk.prompts, **disk.stages, "dataset": disk.dataset}
    said = ", ".join(f"{'' if name in disk.measured else '~'}{_bytes(size)} {name}" for name, size in parts.items())
    by = "by what finished units take" if disk.measured else "by tokens; finished units replace it by what they take"
    lines = [f"disk     about {_bytes(disk.total)} in run.dir ({said}), {by}"]
    need = disk.left + disk.dataset  # the data set that is there stays until the new one is whole
    if disk.free is not None and need > disk.free:
        lines.append(
            f"disk     {_bytes(disk.free)} are free there, and {_bytes(need)} are needed: make room "
            "(synthgen clean run_dir=… removes what nothing uses), or choose another run.dir"
        )
    return lines


def _assume_dataset(config: Config, work: Sequence[StageWork], prompts: int) -> float:
    """Return the bytes of `dataset/` by tokens: every completion once, and those that pair again in other configs."""
    written = dict.fromkeys(("generations", "judgements", "task"), 0.0)
    completions = 0.0
    for item in work:
        if item.kind not in written or not item.prompts:
            continue
        per_prompt = item.requests * item.completions / item.prompts
        written[item.kind] += prompts * per_prompt * item.output_tokens
        completions += per_prompt if item.kind == "generations" else 0.0
    texts = written["generations"] + written["task"]
    paired = 2 * config.pairs.max_pairs_per_prompt / completions if completions else 0.0
    kto = config.pairs.kto.desirable + config.pairs.kto.undesirable
    times = 1 + (min(paired, math.comb(max(2, int(completions)), 2)) * (1 + len(config.export.formats))) + kto
    if written["task"]:
        times = 1.0
    return DATASET_FIXED_BYTES + DATASET_TOKEN_BYTES * (texts * times + written["judgements"])


def _count_prompts(work: Sequence[StageWork], ledger: Mapping[str, StageLedger]) -> int:
    told = [entry.prompts_total for entry in ledger.values() if entry.prompts_total]
    return max([*told, *(item.prompts for item in work)], default=0)


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.3g} {unit}" if size < 999 else f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
