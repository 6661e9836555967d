"""What a run leaves for `publish` and `report`, through exports again, refused starts, failures and damage.

The run is that of `tests/data/run-0.1.0`, whose units are all there: every start only exports.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError, RunFailedError
from synthgen.export.manifest import read_manifest
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.sessions import SessionLog, describe_sessions, read_sessions
from synthgen.observe.status import read_status
from synthgen.runtime.run import run
from synthgen.runtime.session import Session
from tests.inline_runs import inline_runs
from tests.runtime.test_old_runs import DATA, OVERRIDES


@pytest.fixture(scope="module", autouse=True)
def inline() -> Iterator[None]:
    """Without Ray, and with figures as text: what is tried here are files."""
    with inline_runs():
        yield


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run directory as version 0.1.0 left it; its parent is the working directory."""
    shutil.copytree(DATA / "run-0.1.0", tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old/run"


@pytest.fixture
def finished(old: Path) -> Path:
    """The same, exported by this version."""
    export()
    return old


def export(*overrides: str) -> dict[str, Any]:
    return run(compose_config([*OVERRIDES, *overrides]), quiet=True)


def read_files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def publish(*overrides: str) -> int:
    return run_command(["publish", "run_dir=run", "publish.to_dir=out", *overrides])


def test_data_set_of_an_older_version_is_refused_in_one_line_until_it_is_exported_again(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run/dataset has no .export.json: its export was cut, or is of an older version; start the same" in line
    export()
    assert publish() == 0


@pytest.mark.parametrize(
    ("path", "damage", "message"),
    [
        ("data/train-00000-of-00001.parquet", "cut", "data/train-00000-of-00001.parquet is not what the export wrote"),
        ("kto", "remove", "kto/train-00000-of-00001.parquet ("),
        ("data", "remove", "data/train-00000-of-00001.parquet (30 rows) is missing"),
        ("README.md", "remove", "README.md is missing"),
        ("README.md", "cut", "README.md is not what the export wrote"),
        ("figures/ratings.png", "remove", "figures/ratings.png is missing"),
        ("data/train-00000-of-00002.parquet", "add", "data/train-00000-of-00002.parquet is no part of the export"),
        ("figures/lengths.png", "add", "figures/lengths.png is no part of the export"),
        (".export.json", "cut", "dataset/.export.json is damaged"),
    ],
)
def test_publish_refuses_by_name_what_does_not_fit_and_the_same_start_mends_it(
    finished: Path, capsys: pytest.CaptureFixture[str], path: str, damage: str, message: str
) -> None:
    whole = {name: data for name, data in read_files(finished / "dataset").items() if "." in name and name[0] != "."}
    place = finished / "dataset" / path
    if damage == "remove":
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    else:
        place.write_bytes(place.read_bytes()[:100] if damage == "cut" else b"a shard of another export")
    assert publish() == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
    export()
    assert publish() == 0
    data = {name: content for name, content in whole.items() if name != "README.md"}
    assert {name: content for name, content in read_files(Path("out")).items() if name != "README.md"} == data


def test_files_of_the_users_own_stay_and_are_published(finished: Path) -> None:
    (finished / "dataset/LICENSE").write_text("mine")
    (finished / "dataset/sft").mkdir()
    (finished / "dataset/sft/train-00000-of-00001.parquet").write_bytes(b"of an earlier export")
    export()
    assert (finished / "dataset/LICENSE").read_text() == "mine"
    assert not (finished / "dataset/sft").exists()
    assert publish() == 0
    assert Path("out/LICENSE").read_text() == "mine"


def test_a_start_that_is_refused_or_fails_changes_neither_card_nor_configuration(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("config.yaml", "report.json", "report.html", "dataset/README.md", "dataset/.export.json")
    before = {name: (finished / name).read_bytes() for name in names}
    assert publish() == 0
    card = Path("out/README.md").read_bytes()
    other = ("run.seed=99", "generators.main.n=7", "generators.main.model.license=cc-by-nc-4.0")
    Path("others.jsonl").write_text('{"prompt": "Something else?"}\n')
    with pytest.raises(ConfigError):
        export("prompts.path=others.jsonl", *other)

    def fail(*_: Any) -> None:
        raise RunFailedError("the engine did not start")

    monkeypatch.setattr(Session, "execute", fail)
    with pytest.raises(RunFailedError):
        export(*other)
    assert {name: (finished / name).read_bytes() for name in names} == before
    assert publish() == 0
    assert Path("out/README.md").read_bytes() == card


def test_publish_takes_no_key_that_says_what_made_the_data(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("generators.main.n=9") == 2
    assert "generators.main.n=9: what made the data cannot be changed now" in capsys.readouterr().err
    assert publish("publish.license=cc-by-4.0", "judge.model.license=mit") == 0
    assert "license: cc-by-4.0" in Path("out/README.md").read_text()


def test_a_run_without_a_pair_ends_with_a_warning_and_is_not_published(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", *OVERRIDES, "pairs.min_margin=50"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: no pair was made: of 30 prompts 30 below_min_margin; `publish` refuses this data set" in said
    assert publish() == 2
    assert "made no pair: of 30 prompts 30 below_min_margin" in capsys.readouterr().err
    export()
    assert publish() == 0


def test_gpu_hours_add_up_over_sessions_and_exporting_again_changes_nothing(finished: Path) -> None:
    run_dir = RunDir(str(finished))
    replica = {"name": "main-0", "completions": 3, "waiting_share": 0.1}
    SessionLog(run_dir, "run: {}").observe(0.75, [])  # and then its driver was killed
    log = SessionLog(run_dir, "run: {}")
    log._record["started_at"] = "2027-01-01T00:00:00+00:00"
    log._path = log._path.replace("sessions/2", "sessions/9")
    log.write(0.5, [replica], [{"elapsed_s": 1.0, "tokens_per_s": {}}])
    report = export()
    assert report["gpu_hours"] == 1.25
    assert [session["gpu_hours"] for session in report["sessions"]][-2:] == [0.75, 0.5]
    assert (report["replicas"], len(report["throughput"])) == ([replica], 1)
    kept = ("gpu_hours", "sessions", "replicas", "throughput", "started_at", "elapsed_s")
    again = export("pairs.min_margin=1.0")
    assert {key: again[key] for key in kept} == {key: report[key] for key in kept}
    assert read_status(run_dir)["gpu_hours"] == 1.25
    for path in (finished / "sessions").iterdir():
        path.write_bytes(b"null")
    assert {key: export()[key] for key in kept} == {key: report[key] for key in kept}
    shutil.rmtree(finished / "sessions")
    assert {key: export()[key] for key in kept} == {key: report[key] for key in kept}


def test_gpu_hours_of_a_version_without_sessions_count() -> None:
    report = {"gpu_hours": 2.0, "started_at": "2026-01-01T00:00:00+00:00", "replicas": [{"name": "a"}]}

    class Empty:
        storage = type("Storage", (), {"list": staticmethod(lambda _: [])})

    described = describe_sessions(read_sessions(Empty(), report), report)  # type: ignore[arg-type]
    assert (described["gpu_hours"], described["replicas"]) == (2.0, [{"name": "a"}])
    assert described["started_at"] == report["started_at"]


def test_report_of_a_run_that_is_writing_says_so(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = RunDir(str(finished))
    assert run_command(["report", "run_dir=run"]) == 0
    assert "this report is of" not in capsys.readouterr().out
    run_dir.write_json("status.json", {"state": "running"})
    manifest = read_manifest(run_dir.storage)
    assert manifest is not None
    lease = Lease(run_dir.storage, 30.0)
    try:
        assert run_command(["report", "run_dir=run"]) == 0
    finally:
        lease.release()
    said = capsys.readouterr().out
    assert "a run is at work here, running" in said
    assert f"this report is of the export of {manifest.exported_at}" in said
    run_dir.write_json("status.json", {"state": "failed", "message": "x"})
    assert run_command(["report", "run_dir=run"]) == 0
    assert "the last start did not come through, it is failed" in capsys.readouterr().out


def test_report_is_that_of_the_data_set_whatever_became_of_report_json(finished: Path) -> None:
    whole = (finished / "report.html").read_bytes()
    (finished / "report.json").write_text("{")
    assert run_command(["report", "run_dir=run"]) == 0
    assert (finished / "report.html").read_bytes() == whole
