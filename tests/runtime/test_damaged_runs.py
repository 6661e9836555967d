"""Every file of a run directory may be absent, empty, torn, `null` or another file: no traceback, no wrong figure.

Each file of a finished or of a half-done run is damaged in one of five ways (SYNTHGEN_ALL_DAMAGES=1: of both, in all of
them); `plan`, `status`, `report` and `publish` (two of them; with that variable all) answer in one line or truly, and
after one more `run` the data set is the same to the byte.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.ledger.storage import open_storage
from synthgen.planning import make_plan
from synthgen.planning.workload import StageWork
from synthgen.runtime.plan_ledger import read_ledger
from tests.command_line import dataset_bytes
from tests.inline_runs import inline_runs
from tests.object_stores import make_bucket

THOROUGH = bool(os.environ.get("SYNTHGEN_ALL_DAMAGES"))
OVERRIDES = ("experiment=echo", "prompts.limit=6", "run.unit_size=3", "generators.main.n=2")


@pytest.fixture(scope="module", autouse=True)
def inline() -> Iterator[None]:
    """Runs without Ray: what is tried here is the ledger."""
    with inline_runs():
        yield


def command(*arguments: str) -> tuple[int, str]:
    """Run a command line in this process and return its status and all that it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = run_command(list(arguments))
    return status, printed.getvalue()


def start(run_dir: Path) -> tuple[int, str]:
    return command("run", *OVERRIDES, f"run.dir={run_dir}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    assert start(run_dir)[0] == 0
    return run_dir


@pytest.fixture(scope="module")
def half_done(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed between its units: no data set, no report, and of one unit nothing is judged."""
    run_dir = tmp_path_factory.mktemp("half") / "run"
    shutil.copytree(finished, run_dir)
    shutil.rmtree(run_dir / "dataset")
    for name in ("report.json", "report.html"):
        (run_dir / name).unlink()
    [judged] = run_dir.glob("stages/judge-*/unit-000001.parquet")
    judged.unlink()
    return run_dir


def absent(path: Path, other: Path) -> None:
    path.unlink()


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def half(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def null(path: Path, other: Path) -> None:
    path.write_bytes(b"null\n")


def another(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


DAMAGES = (absent, empty, half, null, another)


def contents_of(run_dir: Path) -> dict[str, bytes]:
    """Return what lies there, but for the page, which `report` writes anew where it is not of the data set."""
    files = (path for path in run_dir.rglob("*") if path.is_file() and path.name != "report.html")
    return {str(path): path.read_bytes() for path in files}


def files_of(run_dir: Path) -> list[Path]:
    """Return what a run leaves, by its path within the directory, logs and lock files apart."""
    paths = sorted(path.relative_to(run_dir) for path in run_dir.rglob("*") if path.is_file())
    return [path for path in paths if path.parts[0] != "logs" and not path.name.startswith(".tmp-")]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("state", ["finished", "half_done"])
def test_run_with_a_damaged_file_ends_in_the_same_data_set(
    state: str, damage: Callable[[Path, Path], None], request: pytest.FixtureRequest, finished: Path, tmp_path: Path
) -> None:
    made: Path = request.getfixturevalue(state)
    wanted = dataset_bytes(finished)
    names = files_of(made)
    for number, name in enumerate(names):
        mine = number % len(DAMAGES) == DAMAGES.index(damage) and (number // len(DAMAGES)) % 2 == (made is finished)
        if not (mine or THOROUGH):
            continue
        run_dir = tmp_path / f"{number}"
        shutil.copytree(made, run_dir)
        damage(run_dir / name, run_dir / names[(number + 1) % len(names)])
        reading = (
            ("plan", *OVERRIDES, f"run.dir={run_dir}"),
            ("status", f"run_dir={run_dir}"),
            ("report", f"run_dir={run_dir}"),
            ("publish", f"run_dir={run_dir}", "publish.dry_run=true", "publish.repo_id=org/name"),
        )
        for turn, given in enumerate(reading):
            if (number - turn) % 2 and not THOROUGH:
                continue
            before = contents_of(run_dir)
            status, printed = command(*given)
            assert contents_of(run_dir) == before, (name, given)  # who only looks changes nothing
            assert status in (0, 1, 2), (name, given, printed)
            assert "Traceback" not in printed, (name, given, printed)
            assert "unexpected" not in printed, (name, given, printed)
        status, printed = start(run_dir)
        assert (status, "Traceback" in printed) == (0, False), (name, printed)
        assert dataset_bytes(run_dir) == wanted, name
        shutil.rmtree(run_dir)


def test_whole_files_of_other_stages_are_made_anew_by_the_same_start(finished: Path, tmp_path: Path) -> None:
    """Each can be read, and is another table than it should be; reading it again does not help."""
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    judged = sorted(run_dir.glob("stages/judge-*/unit-*.parquet"))
    generated = sorted(run_dir.glob("stages/generate-*/unit-*.parquet"))
    for path, other in zip(generated, [path.read_bytes() for path in judged], strict=True):
        path.write_bytes(other)
    judged[0].write_bytes((run_dir / "prompts/unit-000000.parquet").read_bytes())
    status, printed = start(run_dir)
    assert (status, "Traceback" in printed) == (0, False), printed
    assert dataset_bytes(run_dir) == dataset_bytes(finished)


def test_whole_files_of_other_units_are_not_taken_for_input(finished: Path, tmp_path: Path) -> None:
    """A judge's file in a generator's place, of which the judge is asked anew; and one unit's in another's."""
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    first, second = sorted(run_dir.glob("stages/generate-*/unit-*.parquet"))[:2]
    (judged, *others) = sorted(run_dir.glob("stages/judge-*/unit-*.parquet"))
    third = sorted(run_dir.glob("stages/generate-*/unit-*.parquet"))[-1]
    second.write_bytes(first.read_bytes())
    third.write_bytes((run_dir / "prompts/unit-000000.parquet").read_bytes())
    first.write_bytes(judged.read_bytes())
    for path in (judged, *others):
        path.unlink()
    status, printed = start(run_dir)
    assert (status, "Traceback" in printed) == (0, False), printed
    assert dataset_bytes(run_dir) == dataset_bytes(finished)


@pytest.mark.slow
def test_run_in_a_store_with_a_damaged_file_ends_in_the_same_data_set(
    finished: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = make_bucket(s3_endpoint, monkeypatch)
    files = {str(name): (finished / name).read_bytes() for name in files_of(finished)}
    wanted = {name: data for name, data in files.items() if is_shard(name)}
    assert wanted
    for number, name in enumerate(files):
        for turn, damage in enumerate(DAMAGES):
            if (number % 6 or turn != number // 6 % len(DAMAGES)) and not THOROUGH:
                continue
            storage = open_storage(f"{bucket}/{number}-{turn}")
            for path, data in files.items():
                storage.replace(path, data)
            torn, other = tmp_path / "torn", tmp_path / "other"
            torn.write_bytes(files[name])
            other.write_bytes(list(files.values())[(number + 1) % len(files)])
            damage(torn, other)
            storage.replace(name, torn.read_bytes()) if torn.exists() else storage.delete(name)
            for given in (
                ("plan", *OVERRIDES, f"run.dir={storage.url}"),
                ("publish", f"run_dir={storage.url}", "publish.dry_run=true", "publish.repo_id=org/name"),
                ("run", *OVERRIDES, f"run.dir={storage.url}"),
            ):
                status, printed = command(*given)
                assert status in ((0, 1, 2) if given[0] == "publish" else (0,)), (name, damage, given, printed)
                assert "Traceback" not in printed, (name, damage, given, printed)
                assert "unexpected" not in printed, (name, damage, given, printed)
            left = {path: storage.read(path) for path in storage.list("dataset") if is_shard(path)}
            assert left == wanted, (name, damage)


def is_shard(path: str) -> bool:
    return path.startswith("dataset/") and path.endswith(".parquet")


def test_plan_looks_at_damage_and_changes_nothing(finished: Path, tmp_path: Path) -> None:
    """Torn parts stay too, what reads a lost unit is counted as made again, and other units keep their numbers."""
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    [judge] = run_dir.glob("stages/judge-*")
    (judge / "parts").mkdir()
    (judge / "parts" / "unit-000001.0-2.parquet").write_bytes(b"torn")
    [made] = run_dir.glob("stages/generate-main-*")
    (made / "unit-000001.parquet").write_bytes(b"torn")
    (run_dir / "prompts" / "unit-000000.parquet").write_bytes(b"torn")
    before = contents_of(run_dir)
    for more in ((), (f"run.reuse=[{other}]",)):
        work = {item.name: item for item in plan_of(run_dir, *more)}
        assert contents_of(run_dir) == before
        left = {name: item.units_total - item.units_done for name, item in work.items()}
        assert left == {"generate-main": 1 - len(more), "judge": 1}, more  # the judge reads what is lost
    assert start(run_dir)[0] == 0
    assert dataset_bytes(run_dir) == dataset_bytes(finished)


def plan_of(run_dir: Path, *more: str) -> Sequence[StageWork]:
    config = compose_config([*OVERRIDES, f"run.dir={run_dir}", *more])
    return make_plan(config, read_ledger(config)).work
