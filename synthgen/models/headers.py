"""The tensors of a checkpoint by its safetensors headers: names, shapes and bytes, and no weight is read.

A header is at the beginning of a file, behind eight bytes that give its length. On the Hub both are fetched as ranges.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synthgen.errors import first_line
from synthgen.models.cache import find_cache
from synthgen.models.table import Stored, Table, format_table, make_table, parse_table

logger = logging.getLogger(__name__)

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1, "F4": 0.5, "F6_E2M3": 0.75, "F6_E3M2": 0.75,
}  # fmt: skip
_PLAIN = ("F16", "BF16", "F32", "F64")
MOST_HEADER = 100 * 2**20
"""safetensors' own limit of a header, bytes."""


def read_directory(directory: Path, layers: int, *, quantized: bool) -> Table | None:
    """Return the tensors of the checkpoint in `directory`; None: it has no safetensors files, or not all of them."""
    files = _list_files(directory)
    if not files or not all(file.is_file() for file in files):
        return None
    try:
        headers = [_read_header(file) for file in files]
    except (OSError, ValueError) as error:
        logger.warning("%s: its safetensors headers cannot be read (%s)", directory, first_line(error))
        return None
    return make_table((one for header in headers for one in _list_stored(header, quantized)), layers)


def fetch_table(repo: str, revision: str | None, commit: str, layers: int, *, quantized: bool) -> Table | None:
    """Return the tensors of a checkpoint on the Hub, fetched once for each commit; None: they cannot be had."""
    cached = find_cache() / "headers" / f"{repo.replace('/', '--')}-{commit}.txt"
    if commit and cached.is_file():
        return parse_table(cached.read_text().splitlines())
    try:
        headers = _fetch_headers(repo, revision)
    except Exception as error:  # no such files, no network, a Hub that does not serve ranges: another way is taken
        logger.debug("%s: no safetensors headers (%s)", repo, first_line(error))
        return None
    table = make_table((one for header in headers for one in _list_stored(header, quantized)), layers)
    if commit:
        _keep(cached, table)
    return table


def _list_files(directory: Path) -> list[Path]:
    index = directory / INDEX
    if index.is_file():
        try:
            names = json.loads(index.read_bytes())["weight_map"].values()
        except (ValueError, KeyError, AttributeError):
            return []
        return [directory / name for name in sorted(set(names))]
    single = directory / SINGLE
    return [single] if single.is_file() else sorted(directory.glob("model-*-of-*.safetensors"))


def _read_header(file: Path) -> Mapping[str, Any]:
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if not 0 < length <= MOST_HEADER:
            raise ValueError(f"{file.name} is not a safetensors file")
        header = json.loads(handle.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{file.name} is not a safetensors file")
    return header


def _fetch_headers(repo: str, revision: str | None) -> list[Mapping[str, Any]]:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        found = HfApi().get_safetensors_metadata(repo, revision=revision)
    finally:
        if shown:
            enable_progress_bars()
    return [
        {name: {"dtype": info.dtype, "shape": info.shape} for name, info in file.tensors.items()}
        for file in found.files_metadata.values()
    ]


def _list_stored(header: Mapping[str, Any], quantized: bool) -> Iterator[Stored]:
    """Yield the tensors of a file; sizes where vLLM keeps the file's own format.

    What is stored in 16 or 32 bits is served in 16, and quantized while loading where `model.quantization` asks for it,
    so its bytes follow from its shape, but for what a quantized checkpoint leaves in 16 bits.
    """
    for name, info in header.items():
        if name == "__metadata__":
            continue
        shape, dtype = tuple(int(side) for side in info["shape"]), str(info["dtype"])
        count = math.prod(shape)
        if dtype in _PLAIN and not quantized:
            yield Stored(name, shape)
            continue
        size = BYTES.get(dtype, 1)
        if dtype in ("F32", "F64") and len(shape) > 1 and name.endswith("weight"):
            size = 2
        elif name.endswith("weight_scale") and dtype in _PLAIN and (len(shape) < 2 or shape[-1] == 1):
            size = 4  # vLLM keeps the scale of an output, or of a tensor, in 32 bits
        yield Stored(name, shape, _count_packed(name, dtype), math.ceil(count * size))


def _count_packed(name: str, dtype: str) -> int:
    """Return the weights in one element: eight 4-bit integers in 32 bits, two 4-bit floats in a byte."""
    last = name.rpartition(".")[2]
    if dtype == "I32" and last in ("qweight", "weight_packed"):
        return 8
    return 2 if dtype == "U8" and (last in ("weight", "weight_packed") or last.endswith("_blocks")) else 1


def _keep(path: Path, table: Table) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_text("\n".join(format_table(table)) + "\n")
        scratch.replace(path)
    except OSError as error:
        logger.debug("%s is not kept (%s)", path, error)
