"""Whole proofs without Ray: what is kept when they are killed, what they say, who shows it. The trainings of most tests
write an adapter and learn nothing (`echo` answers whoever is asked); tests/jobs/test_train.py trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from synthgen.cli import run_command
from synthgen.config import Config, ProveControl, ProveTrain, PublishConfig
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError, RunFailedError
from synthgen.export.manifest import read_manifest
from synthgen.export.proofs import read_proofs
from synthgen.ledger.storage import open_storage
from synthgen.proof import prove
from synthgen.proof import training as training_module
from synthgen.proof.statistics import NO_EVIDENCE
from synthgen.publish.dataset import publish_run
from synthgen.runtime.goes_on import compose_started
from synthgen.runtime.run import run
from synthgen.training.progress import describe_progress, write_progress
from tests.inline_runs import Life, inline_runs, killed_at
from tests.observe.view.chromium import CHROMIUM, open_chromium
from tests.small_runs import write_prompts

PROMPTS = 60


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with inline_runs() as life:
        yield life


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, life: Life) -> Path:
    """A finished run of noise: the echo judge draws its ratings."""
    root = tmp_path_factory.mktemp("made")
    prompts = write_prompts(root / "prompts.jsonl", PROMPTS)
    run(
        compose_config(
            [
                "experiment=echo",
                f"prompts.path={prompts}",
                f"run.dir={root / 'run'}",
                "run.unit_size=16",
                "generators.main.n=2",
                "judge.model.echo.judge=random",
            ]
        ),
        quiet=True,
    )
    return root / "run"


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def learn_nothing(trained: list[str], fail: Callable[[str], None] = lambda name: None) -> Callable[..., None]:
    """Return what takes the place of the process that trains: it writes what one leaves."""

    def run_training(method: str, overrides: Sequence[str], output_dir: Path, **_: Any) -> None:
        fail(output_dir.name)
        trained.append(output_dir.name)
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "adapter_model.safetensors").write_text(f"{method} {output_dir.name}")
        curve = [{"step": float(step), "loss": 0.69} for step in (1, 2)]
        write_progress(output_dir, {**describe_progress(2, 2, 2, 1.0), "loss": 0.69, "curve": curve})

    return run_training


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(training_module, "run_training", learn_nothing(found))
    return found


def compose(run_dir: Path, *overrides: str) -> Config:
    fixed = [f"run_dir={run_dir}", "prove.holdout=0.5", "prove.answers=2", "prove.side=null"]
    return compose_started([*fixed, *overrides]).config


def configure(run_dir: Path, **prove: Any) -> Config:
    """Return what `compose` does, without the second that Hydra takes."""
    config = _composed()
    return replace(
        config,
        run=replace(config.run, dir=str(run_dir)),
        prove=replace(config.prove, holdout=0.5, answers=2, side=None, **prove),
    )


@cache
def _composed() -> Config:
    fixed = ["experiment=echo", "run.unit_size=16", "generators.main.n=2", "run.dir=x"]
    return compose_config([*fixed, "judge.model.echo.judge=random"])


def figures(proof: Mapping[str, Any]) -> dict[str, Any]:
    """Return what does not depend on when a proof was made."""
    return {
        key: proof[key] for key in ("figures", "side", "verdict", "control_verdict", "got_worse", "samples", "data")
    }


def test_noise_is_told_no_evidence_and_everything_is_kept(run_dir: Path, trained: list[str], tmp_path: Path) -> None:
    before = {path.relative_to(run_dir): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    config = configure(run_dir)
    config.prove.side, config.prove.side_prompts = "builtin:facts", 8
    proof = prove(config, quiet=True)
    assert trained == ["after", "control"]
    assert proof["verdict"]["text"] == NO_EVIDENCE
    assert proof["control_verdict"]["text"] == NO_EVIDENCE
    assert proof["settings"]["decides"] == "judge"
    assert set(proof["figures"]["scorers"]) == {"judge"}
    assert set(proof["side"]["scorers"]) == {"judge", "side"}
    assert proof["figures"]["traits"]["tokens"]["effect"]["prompts"] == proof["held_out"]
    assert proof["figures"]["scorers"]["judge"]["win_rate"]["raw"] == pytest.approx(0.5, abs=0.35)
    directory = run_dir / proof["directory"]
    assert json.loads((directory / "proof.json").read_text()) == proof
    page = (directory / "proof.html").read_text()
    assert NO_EVIDENCE in page
    if CHROMIUM.exists():
        with open_chromium(tmp_path) as tab:
            tab.open(directory / "proof.html")
            assert tab.problems == []
            assert tab.evaluate("document.querySelectorAll('main > section').length") >= 5
            assert tab.evaluate("document.querySelectorAll('article .side').length") >= 3
    assert json.loads((directory / "status.json").read_text())["state"] == "complete"
    for path, data in before.items():
        assert (run_dir / path).read_bytes() == data, f"{path} of the run itself has changed"
    again = prove(config, quiet=True)
    assert trained == ["after", "control"]
    assert figures(again) == figures(proof)


def test_another_scorer_trains_and_answers_nothing_anew(run_dir: Path, trained: list[str]) -> None:
    first = prove(configure(run_dir), quiet=True)
    stages = run_dir / first["directory"] / "stages"
    there = {path: path.stat().st_mtime_ns for path in stages.rglob("*.parquet")}
    more = ["prove.scorers.odd.kind=regex", "prove.scorers.odd.pattern=o"]
    second = prove(compose(run_dir, *more), quiet=True)
    assert second["directory"] == first["directory"]
    assert second["settings"]["decides"] == "odd"  # it had no part in making the data
    assert trained == ["after", "control"]
    assert {path: path.stat().st_mtime_ns for path in there} == there
    with pytest.raises(ConfigError, match=r"prove\.decide=odder is no scorer; there are judge, odd"):
        prove(compose(run_dir, *more, "prove.decide=odder"), quiet=True)


def test_a_proof_that_is_killed_at_any_change_ends_in_the_same_figures(
    run_dir: Path, life: Life, trained: list[str]
) -> None:
    whole = prove(configure(run_dir), quiet=True)
    root = run_dir / whole["directory"]
    storage = open_storage(str(root))
    shutil.rmtree(run_dir / "proofs")
    changes = 0
    while killed_at(life, changes, lambda: prove(configure(run_dir), quiet=True), storage):
        changes += 3
    assert changes >= 15
    assert figures(json.loads((root / "proof.json").read_text())) == figures(whole)


def test_a_training_that_fails_is_gone_on_with(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def fail(name: str) -> None:
        if name == "control" and trained == ["after"]:
            trained.append("failed")
            raise RunFailedError("training failed (killed by SIGKILL): out of memory; see train.log")

    monkeypatch.setattr(training_module, "run_training", learn_nothing(trained, fail))
    with pytest.raises(RunFailedError, match="killed by SIGKILL"):
        prove(configure(run_dir), quiet=True)
    (status,) = run_dir.glob("proofs/*/status.json")
    assert json.loads(status.read_text())["state"] == "failed"
    prove(configure(run_dir), quiet=True)
    assert trained == ["after", "failed", "control"]


def test_a_proof_keeps_its_answers_where_the_run_directory_is_moved(run_dir: Path, trained: list[str]) -> None:
    first = prove(configure(run_dir), quiet=True)
    moved = run_dir.with_name("moved")
    run_dir.rename(moved)
    second = prove(configure(moved), quiet=True)
    assert trained == ["after", "control"]
    assert second["directory"] == first["directory"]
    directories = sorted(path.name for path in (moved / first["directory"] / "stages").iterdir())
    assert len(directories) == len({name.rpartition("-")[0] for name in directories})  # one of each stage


def test_all_weights_and_no_control_and_no_other_prompts(run_dir: Path, trained: list[str]) -> None:
    proof = prove(configure(run_dir, lora=False, control=ProveControl.none), quiet=True)
    assert trained == ["after"]
    assert (proof["side"], proof["control_verdict"]) == (None, None)
    assert proof["figures"]["scorers"]["judge"]["control"] is None


def test_another_judge_that_had_no_part_decides(run_dir: Path, trained: list[str]) -> None:
    other = ["prove.judge.enabled=true", "model@prove.judge.model=echo", "prove.judge.model.echo.judge=longer"]
    proof = prove(compose(run_dir, *other), quiet=True)
    assert proof["settings"]["decides"] == "other-judge"
    assert proof["figures"]["scorers"]["other-judge"]["win_rate"] is not None


@pytest.mark.parametrize("method", ["kto", "sft"])
def test_other_methods_train_on_their_own_rows(run_dir: Path, trained: list[str], method: str) -> None:
    import pyarrow.parquet as pq

    proof = prove(configure(run_dir, train=ProveTrain(method)), quiet=True)
    rows = pq.read_table(run_dir / proof["directory"] / "data/control/train.parquet")
    wanted = {"kto": {"prompt", "completion", "label"}, "sft": {"prompt", "chosen", "rejected"}}[method]
    assert set(rows.column_names) == wanted
    assert rows.num_rows == proof["rows"]


def test_the_card_and_the_report_show_the_proof(
    made: Path, run_dir: Path, trained: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prove(configure(run_dir), quiet=True)
    storage = open_storage(str(run_dir))
    manifest = read_manifest(storage)
    assert manifest is not None
    config = configure(run_dir)
    config.publish = PublishConfig(to_dir=str(tmp_path / "published"))
    card = publish_run(storage, manifest, config).card
    assert "## Does it make a model better?" in card
    assert NO_EVIDENCE in card
    assert run_command(["report", str(run_dir)]) == 0
    assert f"proof: {NO_EVIDENCE}" in capsys.readouterr().out
    assert "What was proved" in (run_dir / "report.html").read_text()
    prompts = replace(config.prompts, path=str(made.parent / "prompts.jsonl"))
    run(replace(config, prompts=prompts, judge=replace(config.judge, orders=2)), quiet=True)  # other data
    manifest = read_manifest(storage)
    assert manifest is not None
    assert read_proofs(storage, manifest) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prove.holdout=1.5"], r"prove\.holdout=1\.5 must be above 0 and below 1"),
        (["prove.steps=0"], r"prove\.steps=0 must be at least 1"),
        (["prove.scorers.side.kind=regex"], r"prove\.scorers\.side: that name is taken"),
        (["prove.judge.enabled=true"], r"prove\.judge\.model is not chosen"),
        (["prove.holdout=0.001"], r"prove\.holdout=0\.001: no prompt is held out"),
        (
            ["model@prove.model=hub", "prove.model.id=a/b", "prove.model.lora=c/d"],
            r"prove\.model\.lora=c/d: an adapter",
        ),
        (
            [
                "model@prove.model=openai_endpoint",
                "prove.model.id=x",
                "prove.model.endpoint.base_url=http://127.0.0.1:9",
            ],
            r"prove\.model\.id=x is served by an endpoint",
        ),
        (["prove.side=nothing.jsonl"], r"prove\.side=nothing\.jsonl does not exist"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_trained(
    run_dir: Path, trained: list[str], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prove(compose(run_dir, *overrides), quiet=True)
    assert trained == []


def test_the_command_takes_short_keys_and_refuses_what_made_the_data(
    run_dir: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["prove.holdout=0.5", "prove.answers=2", "prove.side=null"]
    assert run_command(["prove", str(run_dir), "model=echo", "train=kto", "steps=3", *more]) == 0
    out = capsys.readouterr().out
    assert "echo was trained with KTO (LoRA) for 3 steps" in " ".join(out.split())
    assert out.count(NO_EVIDENCE) == 2  # of the pairs, and of the control
    assert run_command(["prove", str(run_dir), "judge.orders=3"]) == 2
    assert "judge.orders=3: what made the data cannot be changed in its proof" in capsys.readouterr().err
    assert run_command(["prove", f"run_dir={run_dir.parent}"]) == 2
