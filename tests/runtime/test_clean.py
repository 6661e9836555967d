"""`synthgen clean` removes what no configuration of a run uses any more, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.config.saved import dump_config
from synthgen.ledger.lease import Lease
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.sessions import SessionLog
from synthgen.ledger.storage import open_storage
from synthgen.runtime.clean import find_unused, remove
from synthgen.runtime.run import run
from tests.inline_runs import Life, inline_runs, killed_at
from tests.object_stores import make_bucket
from tests.small_runs import write_prompts


@pytest.fixture(autouse=True)
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 6)
    return ["experiment=echo", f"prompts.path={prompts}", "run.unit_size=3", "generators.main.n=2"]


def start(command: list[str], *more: str) -> None:
    run(compose_config([*command, *more]), quiet=True)


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("lease.json", ".tmp-lock-lease.json")
    }


def test_only_what_an_earlier_configuration_made_goes(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    here = f"run.dir={root}"
    start(command, here, "judge.orders=2")
    old = next(root.glob("stages/judge-*")).name
    start(command, here)
    (root / "failures/torn").mkdir(parents=True)
    (root / "failures/torn/x").write_bytes(b"torn")
    (root / "failures/score-gone").mkdir()
    (root / "failures/score-gone/unit-000000.jsonl").write_text("{}\n")
    (root / ".tmp-export-killed/dataset").mkdir(parents=True)
    (root / ".tmp-export-killed/dataset/a").write_bytes(b"12345")
    temporary = root / "stages" / ".tmp-host-1-abc"
    temporary.write_bytes(b"1")
    os.utime(temporary, (1, 1))
    before = files_of(root)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115  (pytest's own is no terminal either)
    assert run_command(["clean", here]) == 0
    said = capsys.readouterr().out
    assert "nothing was removed; yes=true removes these" in said
    assert files_of(root) == before, "it shows first"
    size = sum(path.stat().st_size for path in (root / "stages" / old).iterdir())
    assert f"{size / 1024:,.1f} KiB       2 files  stages/{old}  (of an earlier configuration)" in said
    assert run_command(["clean", str(root), "--yes"]) == 0
    gone = {path for path in before if path not in files_of(root)}
    assert gone == {
        *(path for path in before if path.startswith(f"stages/{old}/")),
        "failures/torn/x",
        "failures/score-gone/unit-000000.jsonl",
        ".tmp-export-killed/dataset/a",
        "stages/.tmp-host-1-abc",
    }
    assert not (root / "stages" / old).exists()
    capsys.readouterr()
    assert run_command(["clean", f"run_dir={root}", "yes=true"]) == 0
    assert "holds nothing that is not in use" in capsys.readouterr().out
    start(command, here)
    report = json.loads((root / "report.json").read_text())
    assert {stage["reused_units"] for stage in report["stages"].values()} == {2}


def test_what_a_person_is_asked_for_at_a_terminal(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = f"run.dir={tmp_path / 'run'}"
    start(command, here, "judge.orders=2")
    start(command, here)
    there = set((tmp_path / "run/stages").iterdir())
    for answer, left in (("n\n", 3), ("y\n", 2)):

        class Terminal:
            isatty = staticmethod(lambda: True)
            readline = staticmethod(lambda answer=answer: answer)

        monkeypatch.setattr(sys, "stdin", Terminal)
        assert run_command(["clean", here]) == 0
        assert len(list((tmp_path / "run/stages").iterdir())) == left
    assert len(there) == 3


def test_what_an_unfinished_start_made_is_in_use(tmp_path: Path, command: list[str]) -> None:
    here = f"run.dir={tmp_path / 'run'}"
    start(command, here, "judge.orders=2")
    run_dir = RunDir(str(tmp_path / "run"))
    start(command, f"run.dir={tmp_path / 'other'}")
    for stage in (tmp_path / "other/stages").glob("judge-*"):  # as if it had been killed here before its export
        (tmp_path / "run/stages" / stage.name).mkdir()
        (tmp_path / "run/stages" / stage.name / "unit-000000.parquet").write_bytes(
            (stage / "unit-000000.parquet").read_bytes()
        )
    assert [piece.path for piece in find_unused(run_dir)] == [f"stages/{stage.name}"]
    SessionLog(run_dir, dump_config(compose_config([*command, here]))).write(0.0, [])
    assert find_unused(run_dir) == []
    newest = max((tmp_path / "run/sessions").iterdir())
    newest.write_text("{")
    assert run_command(["clean", here, "yes=true"]) == 2


def test_a_run_that_is_under_way_is_left_alone(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"run.dir={tmp_path / 'run'}"
    start(command, here)
    (tmp_path / "run/lease.json").unlink()
    lease = Lease(open_storage(str(tmp_path / "run")), 30)
    try:
        assert run_command(["clean", here, "yes=true"]) == 2
        assert "is in use by pid" in capsys.readouterr().err
    finally:
        lease.release()
    assert run_command(["clean", f"run_dir={tmp_path}"]) == 2
    assert "holds no configuration of a run" in capsys.readouterr().err
    assert not (tmp_path / "lease.json").exists()


def test_killed_at_any_change_the_run_goes_on_with_either_configuration(
    tmp_path: Path, command: list[str], life: Life
) -> None:
    url = str(tmp_path / "run")
    start(command, f"run.dir={url}", "judge.orders=2")
    start(command, f"run.dir={url}")
    (tmp_path / "run/failures/torn").mkdir(parents=True)
    (tmp_path / "run/failures/torn/x").write_bytes(b"torn")
    data = files_of(tmp_path / "run/dataset/data")
    run_dir = RunDir(url)
    for changes in range(2):
        assert killed_at(life, changes, lambda: remove(run_dir, find_unused(run_dir)), open_storage(url))
        start(command, f"run.dir={url}")
        assert files_of(tmp_path / "run/dataset/data") == data
    start(command, f"run.dir={url}", "judge.orders=2")


def test_in_an_object_store(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    url = make_bucket(s3_endpoint, monkeypatch) + "/run"
    start(command, f"run.dir={url}", "judge.orders=2")
    start(command, f"run.dir={url}")
    storage = open_storage(url)
    (old,) = find_unused(RunDir(url))
    assert (old.files, old.size_bytes) == (2, sum(len(storage.read(path)) for path in storage.list(old.path)))
    assert run_command(["clean", url, "yes=true"]) == 0
    assert storage.list(old.path) == []
    assert {path.split("/")[1].rpartition("-")[0] for path in storage.list("stages")} == {"generate-main", "judge"}
