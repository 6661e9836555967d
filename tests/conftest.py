"""Fixtures that are dear, made once per session: the tiny model's directory and one vLLM engine that serves it."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from tiny_config import make_tiny_config

from benchmarks.fault_proxy import moto_server
from synthgen.engines.base import EngineInfo
from synthgen.engines.vllm import VllmEngine
from synthgen.models.tiny import ensure_tiny_model

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Hear Ctrl-C and a closed terminal under `nohup` and `&` too, which ignore them: tests send both."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of `builtin:tiny`, made from nothing."""
    return ensure_tiny_model(tmp_path_factory.mktemp("models"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_vllm() -> AsyncIterator[tuple[VllmEngine, EngineInfo]]:
    """A started engine of the tiny model, and what it says of itself."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    engine = VllmEngine(make_tiny_config())
    info = await engine.start()
    yield engine, info
    await engine.close()


@pytest.fixture(scope="session")
def vllm_engine(started_vllm: tuple[VllmEngine, EngineInfo]) -> VllmEngine:
    """The engine of `started_vllm`. Tests share it, so they must leave it alive."""
    return started_vllm[0]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3-speaking server on loopback."""
    with moto_server() as url:
        yield url
