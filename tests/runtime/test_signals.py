"""Signals to a run: which one, to whom, and when. It ends in order, in time, and leaves no process behind.

Every start of Ray takes some twenty seconds. So each moment is tried with one or two cells of the table, of which each
signal and each target has its share; SYNTHGEN_ALL_SIGNALS=1 tries all of them (`make chaos`).
"""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.command_line import Started, committed_units, dataset_bytes, wait_for_end
from tests.inline_runs import run_inline

GRACE_S = 20
TO_THE_END_S = 10
"""What an exit may take beyond the grace, s."""

ECHO = ["experiment=echo", "run.unit_size=4", "prompts.limit=32", "cluster.num_cpus=1", f"run.grace_s={GRACE_S}"]
LOADING = ["generators.main.model.echo.start_s=600"]
GENERATING = [
    "generators.main.model.echo.tokens_per_s=30",
    "judge.model.echo.tokens_per_s=60",
    "generators.main.model.max_num_seqs=8",
    "judge.model.max_num_seqs=8",
]

ENDLESS_EXPORT = """
from dataclasses import replace
from pathlib import Path

from pipelines.preference import build_flow as build_real_flow


def build_flow(config):
    def export(storage, units, read_tables, *_):
        while True:
            Path(config.run.dir, "in-the-export").touch()
            {step}

    return replace(build_real_flow(config), export=export)
"""


def is_loading(run_dir: Path) -> bool:
    log = run_dir / "logs/driver.log"
    return log.exists() and "asked Ray for a replica" in log.read_text() and (run_dir / "logs/echo-0.log").exists()


def is_generating(run_dir: Path) -> bool:
    return len(committed_units(run_dir, "generate-main")) >= 2


def has_open_units(run_dir: Path) -> bool:
    try:
        status = json.loads((run_dir / "status.json").read_text())
    except FileNotFoundError:
        return False
    return any(replica["open_units"] for replica in status.get("replicas", ()))


def is_exporting(run_dir: Path) -> bool:
    return (run_dir / "in-the-export").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("export") / "run"
    run_inline([*ECHO, f"run.dir={run_dir}"])
    return run_dir


@pytest.fixture(scope="module")
def endless_export(finished: Path) -> tuple[Path, list[str]]:
    """A run whose stages are finished, and the arguments with which it exports for ever."""
    directory, arguments = finished.parent, [*ECHO, f"run.dir={finished}"]
    (directory / "endless.py").write_text(ENDLESS_EXPORT.format(step="[read_tables(unit) for unit in units]"))
    (directory / "deaf.py").write_text("import time\n" + ENDLESS_EXPORT.format(step="time.sleep(0.01)"))
    return directory, arguments


def send(started: Started, target: str, number: int) -> None:
    (os.killpg if target == "group" else os.kill)(started.process.pid, number)


def check_end(started: Started, run_dir: Path, number: int, *, grace_s: float, act: Callable[[], None]) -> None:
    """Let `act` end the run, and check that it ends as a stopped one does, in time and whole."""
    below = started.descendants()
    began = time.monotonic()
    act()
    assert started.process.wait(120) == 128 + number, started.log.read_text()[-3000:]
    took_s = time.monotonic() - began
    assert took_s < grace_s + TO_THE_END_S
    assert wait_for_end(below) == []
    log = started.log.read_text()
    assert f"{signal.Signals(number).name} received" in log
    assert "what was committed is kept; the same command goes on from it" in log
    assert "Traceback" not in log
    assert json.loads((run_dir / "status.json").read_text())["state"] == "stopped"
    assert json.loads((run_dir / "lease.json").read_text())["released"]
    assert not (run_dir / "failures/torn").exists()


def cells(*chosen: tuple[str, int]) -> pytest.MarkDecorator:
    """Parametrize a test by these targets and signals, or by all of them where that is asked for."""
    everything = [
        (target, n) for target in ("process", "group") for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ]
    assert set(chosen) < set(everything)
    tried = everything if os.environ.get("SYNTHGEN_ALL_SIGNALS") else chosen
    return pytest.mark.parametrize(("target", "number"), tried)


@cells(("group", signal.SIGINT))
def test_signal_while_models_load(tmp_path: Path, target: str, number: int) -> None:
    run_dir = tmp_path / "run"
    with Started(["run", *ECHO, *LOADING, f"run.dir={run_dir}"], tmp_path / "log") as started:
        started.wait_for(lambda: is_loading(run_dir), "a replica that loads")
        check_end(started, run_dir, number, grace_s=0, act=lambda: send(started, target, number))


@cells(("process", signal.SIGTERM))
def test_signal_while_generating_lets_what_is_in_flight_commit(
    tmp_path: Path, finished: Path, target: str, number: int
) -> None:
    run_dir = tmp_path / "run"
    with Started(["run", *ECHO, *GENERATING, f"run.dir={run_dir}"], tmp_path / "log") as started:
        started.wait_for(lambda: is_generating(run_dir), "two committed units")
        before = len(committed_units(run_dir, "generate-main"))
        check_end(started, run_dir, number, grace_s=GRACE_S, act=lambda: send(started, target, number))
    kept = {path: path.read_bytes() for path in committed_units(run_dir, "generate-main")}
    assert before < len(kept) <= 8 or before == 8, "what was in flight is committed"
    run_inline([*ECHO, f"run.dir={run_dir}"])
    assert all(path.read_bytes() == data for path, data in kept.items())
    assert dataset_bytes(run_dir) == dataset_bytes(finished)


@cells(("process", signal.SIGINT), ("group", signal.SIGHUP))
def test_signal_while_exporting(
    tmp_path: Path, endless_export: tuple[Path, list[str]], target: str, number: int
) -> None:
    directory, arguments = endless_export
    (directory / "run/in-the-export").unlink(missing_ok=True)
    with Started(["run", *arguments, f"pipeline={directory}/endless.py"], tmp_path / "log") as started:
        started.wait_for(lambda: is_exporting(directory / "run"), "an export")
        check_end(started, directory / "run", number, grace_s=0, act=lambda: send(started, target, number))


def test_signal_that_nothing_answers_ends_the_process_when_the_grace_is_over(
    tmp_path: Path, endless_export: tuple[Path, list[str]]
) -> None:
    directory, arguments = endless_export
    (directory / "run/in-the-export").unlink(missing_ok=True)
    deaf = [f"pipeline={directory}/deaf.py", "run.grace_s=1"]
    with Started(["run", *arguments, *deaf], tmp_path / "log") as started:
        started.wait_for(lambda: is_exporting(directory / "run"), "an export")
        send_term = lambda: send(started, "process", signal.SIGTERM)  # noqa: E731
        check_end(started, directory / "run", signal.SIGTERM, grace_s=1, act=send_term)


def test_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    slow = ["generators.main.model.echo.tokens_per_s=0.5", "run.grace_s=600"]
    with Started(["run", *ECHO, *GENERATING, *slow, f"run.dir={run_dir}"], tmp_path / "log") as started:
        log = run_dir / "logs/driver.log"
        started.wait_for(lambda: has_open_units(run_dir), "a replica at work")
        os.kill(started.process.pid, signal.SIGINT)
        started.wait_for(lambda: "stopping: " in log.read_text(), "the end of the loop")

        def insist() -> None:
            # What comes within a moment of the first is the same signal, to the process and to its group.
            while started.process.poll() is None:
                os.kill(started.process.pid, signal.SIGINT)
                time.sleep(0.2)

        check_end(started, run_dir, signal.SIGINT, grace_s=0, act=insist)
    assert "received again: ended at once" in started.log.read_text()


def test_signal_by_timeout_comes_twice_and_counts_once(tmp_path: Path) -> None:
    """GNU timeout sends its signal to the process and to the group, and so twice to the process."""
    run_dir = tmp_path / "run"
    with Started(["run", *ECHO, *GENERATING, f"run.dir={run_dir}"], tmp_path / "log") as started:
        started.wait_for(lambda: is_generating(run_dir), "two committed units")

        def send_twice() -> None:
            send(started, "process", signal.SIGTERM)
            send(started, "group", signal.SIGTERM)

        check_end(started, run_dir, signal.SIGTERM, grace_s=GRACE_S, act=send_twice)
    assert "again" not in started.log.read_text()


def test_signal_to_every_process_of_the_run_ends_it_in_order(tmp_path: Path) -> None:
    """As systemd and Slurm do to a cgroup: Ray dies of it beside the driver, and what was in flight is done again."""
    run_dir = tmp_path / "run"
    with Started(["run", *ECHO, *GENERATING, f"run.dir={run_dir}"], tmp_path / "log") as started:
        started.wait_for(lambda: is_generating(run_dir), "two committed units")

        def send_to_all() -> None:
            for process in [psutil.Process(started.process.pid), *started.descendants()]:
                process.send_signal(signal.SIGTERM)

        check_end(started, run_dir, signal.SIGTERM, grace_s=GRACE_S, act=send_to_all)


def test_terminal_that_is_closed_stops_the_run_in_order(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "synthgen", "run", *ECHO, *GENERATING, f"run.dir={run_dir}"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    driver = psutil.Process(child)
    try:
        deadline = time.monotonic() + 120
        while not is_generating(run_dir):
            assert time.monotonic() < deadline
            os.set_blocking(terminal, False)
            try:
                os.read(terminal, 65536)
            except BlockingIOError:
                time.sleep(0.05)
        below = driver.children(recursive=True)
        os.close(terminal)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
        assert wait_for_end(below) == []
        assert json.loads((run_dir / "status.json").read_text())["state"] == "stopped"
    finally:
        if driver.is_running():
            driver.kill()


def test_ray_that_does_not_come_up_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    """Its GCS is stopped as it starts: `ray.init` then waits with the interpreter's lock held."""
    run_dir = tmp_path / "run"
    arguments = ["run", *ECHO, f"run.dir={run_dir}", "cluster.ray_start_timeout_s=22", "run.lease_s=6"]
    with Started(arguments, tmp_path / "log") as started:
        started.wait_for(lambda: bool(started.descendants("gcs_server")), "Ray's server")
        below = started.descendants("gcs_server")
        below[0].suspend()
        lease = run_dir / "lease.json"
        before = json.loads(lease.read_text())["renewed_at"]
        started.wait_for(lambda: json.loads(lease.read_text())["renewed_at"] > before + 5, "a renewed lease")
        assert started.process.wait(120) == 1
    assert wait_for_end(below) == []
    log = started.log.read_text()
    assert "synthgen: waiting for Ray to start on this machine: 2" in log
    assert "cluster.ray_start_timeout_s=22" in log.splitlines()[-1]
    assert "Traceback" not in log
    assert json.loads((run_dir / "status.json").read_text())["state"] == "failed"


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["loading", "generating"] if os.environ.get("SYNTHGEN_ALL_SIGNALS") else ["loading"])
def test_signal_to_the_group_with_a_real_engine(tmp_path: Path, moment: str) -> None:
    run_dir = tmp_path / "run"
    arguments = ["run", "experiment=tiny", f"run.dir={run_dir}", "judge.rationale=none", f"run.grace_s={GRACE_S}"]
    with Started(arguments, tmp_path / "log") as started:
        if moment == "loading":
            started.wait_for(lambda: bool(started.descendants("VLLM::EngineCore")), "an engine that starts")
        else:
            started.wait_for(lambda: len(committed_units(run_dir, "generate-main")) >= 1, "a committed unit")
        act = lambda: send(started, "group", signal.SIGTERM)  # noqa: E731
        check_end(started, run_dir, signal.SIGTERM, grace_s=GRACE_S, act=act)
