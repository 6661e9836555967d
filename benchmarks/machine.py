"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, load and package versions as JSON values."""
    from synthgen.observe.report import package_versions

    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": package_versions(),
    }


def peak_memory_mib(pid: int | None = None) -> float:
    """Return the most resident memory that a process has held, MiB (VmHWM)."""
    for line in Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak_memory() -> None:
    """Let the peak of this process begin anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
