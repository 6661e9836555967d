"""What drivers and Ray call GPUs, and what NVIDIA's and AMD's tools say this machine has."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

RESERVED_BY_DRIVER_GIB = 0.6
"""What the tools count and CUDA does not hand out (141 GB H200: 140.4 and 139.7 GiB)."""
KINDS = (
    (r"GB300", "gb300"), (r"GB200", "gb200"), (r"GB10\b", "gb10"), (r"\bB300", "b300"), (r"\bB200", "b200"),
    (r"H100.*(NVL|94GB)", "h100-nvl"), (r"H100.*PCIE", "h100-pcie"), (r"H200", "h200-141"), (r"H100", "h100-80"),
    (r"\bH20\b", "h20"), (r"A100.*80.*PCIE|A100.*PCIE.*80", "a100-80-pcie"), (r"A100.*PCIE", "a100-40-pcie"),
    (r"A100.*80", "a100-80"), (r"A100.*40", "a100-40"), (r"L40S", "l40s"), (r"\bL4\b", "l4"), (r"A10G", "a10g"),
    (r"RTX.?PRO.?6000", "rtxpro6000"), (r"RTX.?5090", "rtx5090"), (r"RTX.?4090", "rtx4090"),
    (r"MI300X", "mi300x"), (r"MI325X", "mi325x"), (r"MI355X", "mi355x"),
)  # fmt: skip
"""Patterns of names, in upper case, and the data sheets of `conf/cluster/gpu/`; the first that fits goes."""
UNIFIED = re.compile(r"GB10\b|THOR|ORIN")
"""GPUs that share the machine's memory: `nvidia-smi` gives them none."""
TIMEOUT_S = 20

Found = list[tuple[str, float | None]]
"""(name, GiB) of each GPU; None: it has no memory of its own."""


def find_sheet(name: str) -> str | None:
    """Return the data sheet's file name for a driver's or Ray's name of a GPU; None: there is none."""
    return next((kind for pattern, kind in KINDS if re.search(pattern, name.upper())), None)


def list_gpus() -> Found:
    """Return the GPUs of this machine that processes may use, as its drivers' tools list them."""
    found = _ask_nvidia() or _ask_amd()
    if not found and (device := _find_device()) is not None and not _is_hidden():
        logger.warning(
            "%s is there, but neither nvidia-smi nor rocm-smi nor amd-smi lists a GPU; planning without GPUs: install "
            "the driver's tools, or give cluster=<preset>",
            device,
        )
    return found


def _is_hidden() -> bool:
    return any(os.environ.get(name) == "" for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))


def _find_device() -> Path | None:
    return next((path for path in (Path("/dev/nvidia0"), Path("/dev/kfd")) if path.exists()), None)


def _run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("%s does not answer (%s); planning without its GPUs", program, error)
        return ""


def _ask_nvidia() -> Found:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return []
    chosen = None if visible is None else {part.strip() for part in visible.split(",")}
    output = _run("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
    gpus: Found = []
    for line in output.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4 or not (chosen is None or {parts[0], parts[1]} & chosen):
            continue
        if parts[3].isdigit():
            gpus.append((parts[2], int(parts[3]) / 1024 - RESERVED_BY_DRIVER_GIB))
        elif UNIFIED.search(parts[2].upper()):
            gpus.append((parts[2], None))
    return gpus


def _ask_amd() -> Found:
    """Return AMD's GPUs: by rocm-smi (a mapping of cards), else by amd-smi (a list)."""
    visible = os.environ.get("HIP_VISIBLE_DEVICES", os.environ.get("ROCR_VISIBLE_DEVICES"))
    if visible == "":
        return []
    gpus = list(_read_rocm(_parse(_run("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"))))
    gpus = gpus or list(_read_amd(_parse(_run("amd-smi", "static", "--asic", "--vram", "--json"))))
    if visible is None:
        return gpus
    chosen = {part.strip() for part in visible.split(",")}
    return [gpu for index, gpu in enumerate(gpus) if str(index) in chosen]


def _parse(output: str) -> Any:
    start = min((output.find(sign) for sign in "[{" if sign in output), default=-1)
    try:
        return json.loads(output[start:]) if start >= 0 else None
    except ValueError:
        return None


def _read_rocm(said: Any) -> Iterator[tuple[str, float | None]]:
    for card, values in said.items() if isinstance(said, Mapping) else ():
        if not card.startswith("card") or not isinstance(values, Mapping):
            continue
        lower = {str(key).lower(): str(value) for key, value in values.items()}
        name = lower.get("card series") or lower.get("card model") or ""
        size = lower.get("vram total memory (b)", "")
        if name and size.isdigit():
            yield name, int(size) / 2**30 - RESERVED_BY_DRIVER_GIB


def _read_amd(said: Any) -> Iterator[tuple[str, float | None]]:
    entries = said.get("gpu_data") if isinstance(said, Mapping) else said
    for entry in entries if isinstance(entries, list) else ():
        size = (entry.get("vram") or {}).get("size") or {}
        name = str((entry.get("asic") or {}).get("market_name") or "")
        if name and isinstance(size, Mapping) and size.get("value"):
            yield name, float(size["value"]) / 1024 - RESERVED_BY_DRIVER_GIB
