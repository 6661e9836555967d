"""A run directory is enough: what made it is gone on with, and what is given now is put over that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import synthgen
from synthgen.cli import run_command
from synthgen.config.compose import compose_config
from synthgen.config.saved import dump_config, fingerprint_config
from synthgen.errors import ConfigError
from synthgen.ledger.run_dir import RunDir
from synthgen.ledger.sessions import SessionLog
from synthgen.publish.card_config import public_config
from synthgen.runtime.goes_on import compose_started
from synthgen.runtime.run import run
from tests.inline_runs import inline_runs
from tests.small_runs import write_prompts


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    with inline_runs():
        yield


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    prompts = write_prompts(tmp_path / "prompts.jsonl", 8)
    return ["experiment=echo", f"prompts.path={prompts}", "run.unit_size=4", "judge.orders=2"]


def test_what_is_given_now_is_put_over_the_command_that_made_the_run(tmp_path: Path, overrides: list[str]) -> None:
    here = f"run.dir={tmp_path / 'run'}"
    run(compose_config([*overrides, here]), quiet=True)
    started = compose_started([here, "judge=ratings_only", "judge.orders=3", "++generators.main.n=5"])
    whole = compose_config([*overrides[:3], "judge=ratings_only", "judge.orders=3", "generators.main.n=5", here])
    assert fingerprint_config(started.config) == fingerprint_config(whole)
    assert started.before == tuple(overrides[:3])
    assert started.config.run.overrides == [
        *overrides[:3],
        "judge=ratings_only",
        "judge.orders=3",
        "++generators.main.n=5",
    ]
    assert "as it was started (experiment=echo " in started.describe()
    assert started.describe().endswith("with judge=ratings_only judge.orders=3 ++generators.main.n=5")


def test_a_whole_command_is_taken_as_it_is(tmp_path: Path, overrides: list[str]) -> None:
    here = f"run.dir={tmp_path / 'run'}"
    run(compose_config([*overrides, here]), quiet=True)
    started = compose_started(["experiment=echo", here])
    assert (started.before, started.describe(), started.config.judge.orders) == ((), "", 1)


def test_a_directory_alone_is_gone_on_with_whatever_model_is_given(tmp_path: Path, overrides: list[str]) -> None:
    url = str(tmp_path / "run")
    run(compose_config([*overrides, "model@judge.model=echo", f"run.dir={url}"]), quiet=True)
    started = compose_started([f"run_dir={url}", "model=tiny"])
    assert started.before == tuple(overrides)
    assert (started.config.judge.orders, started.config.judge.model.name) == (2, "tiny")
    assert started.config.generators["main"].model.name == "tiny"
    whole = compose_started([f"run.dir={url}", "model=tiny"])
    assert (whole.before, whole.config.judge.orders) == ((), 1)


def test_every_command_takes_the_directory_without_its_key(
    tmp_path: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(tmp_path / "run")
    assert run_command(["run", *overrides, f"run_dir={url}"]) == 0
    capsys.readouterr()
    assert run_command(["plan", url, "judge=ratings_only"]) == 0
    assert f"going on with {url} as it was started" in capsys.readouterr().err
    assert run_command(["run", url, "pairs=all_pairs"]) == 0
    said = capsys.readouterr().err
    assert "generate-main: 2 of 2 units are there; judge: 2 of 2 units are there" in said
    assert json.loads((tmp_path / "run/report.json").read_text())["stages"]["judge"]["reused_units"] == 2
    assert run_command(["preview", f"run_dir={url}", "preview.prompts=1"]) == 0
    assert synthgen.compose({"run": {"dir": url}}).pairs.policy == "all_pairs"


def test_a_run_that_was_killed_before_its_end_goes_on(tmp_path: Path, overrides: list[str]) -> None:
    config = compose_config([*overrides, f"run.dir={tmp_path / 'run'}"])
    for given in (config, compose_config([*overrides, "pairs=all_pairs", f"run.dir={tmp_path / 'run'}"])):
        SessionLog(RunDir(config.run.dir), dump_config(given)).write(0.0, [])  # what a run writes while it runs
    assert compose_started([f"run.dir={tmp_path / 'run'}"]).before == (*overrides, "pairs=all_pairs")


@pytest.mark.parametrize("data", [b"", b"null\n", b"\xff\xfe\x00", b"run: [", b"run: {seed: 1}\n"])
def test_a_damaged_configuration_counts_as_absent(tmp_path: Path, overrides: list[str], data: bytes) -> None:
    url = tmp_path / "run"
    run(compose_config([*overrides, f"run.dir={url}"]), quiet=True)
    (url / "config.yaml").write_bytes(data)
    (url / "sessions" / "9.json").write_bytes(b"{")
    assert compose_started([f"run.dir={url}"]).before == tuple(overrides), "that of the last session which can be read"
    for path in (url / "sessions").iterdir():
        path.write_bytes(b"{")
    with pytest.raises(
        ConfigError, match=r"holds no command that can be read: .* or the files that keep it are damaged"
    ):
        compose_started([f"run.dir={url}"])


def test_where_there_is_nothing_to_go_on_with_the_models_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not chosen; give"):
        compose_started([f"run.dir={tmp_path / 'none'}"])


def test_a_run_of_an_earlier_version_wants_its_command_once(tmp_path: Path, overrides: list[str]) -> None:
    url = tmp_path / "run"
    run(compose_config([*overrides, f"run.dir={url}"]), quiet=True)
    saved = yaml.safe_load((url / "config.yaml").read_text())
    del saved["run"]["overrides"], saved["run"]["config_dir"]
    (url / "config.yaml").write_text(yaml.safe_dump(saved))
    with pytest.raises(ConfigError, match=r"run.dir=.* does not hold the command that made it .*; give the whole"):
        compose_started([f"run.dir={url}"])


def test_the_command_is_kept_without_secrets_and_is_no_part_of_the_data(tmp_path: Path, overrides: list[str]) -> None:
    secret = "+generators.main.model.endpoint.extra_body.api_key=hf_secret"
    config = compose_config([*overrides, secret, f"run.dir={tmp_path}"])
    assert config.run.overrides == overrides
    assert "overrides" not in public_config(config).get("run", {})
    assert fingerprint_config(config) == fingerprint_config(compose_config([*reversed(overrides), secret, "run.dir=x"]))


def test_a_start_that_ended_before_anything_ran_asks_for_the_whole_command(tmp_path: Path) -> None:
    RunDir(str(tmp_path)).write_json("status.json", {"state": "failed"})
    with pytest.raises(ConfigError, match=r"its start ended before any model ran.*; give the whole command again"):
        compose_started([f"run_dir={tmp_path}", "judge=ratings_only"])
    with pytest.raises(ConfigError, match="is not chosen"):
        compose_started([f"run_dir={tmp_path / 'none'}", "judge=ratings_only"])
