"""`calibrate` measures some units of a flow, and `plan` goes by the figures where nothing is finished yet."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_runs import write_prompts

from synthgen.config import Config
from synthgen.config.compose import compose_config
from synthgen.planning import RunPlan, format_plan, make_plan
from synthgen.runtime.calibrate import calibrate, format_calibration
from synthgen.runtime.plan_ledger import CALIBRATION, StageCalibration, read_ledger
from tests.inline_runs import inline_runs


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A configuration whose run directory holds a calibration and nothing else."""
    root = tmp_path_factory.mktemp("calibrate")
    write_prompts(root / "prompts.jsonl", 20)
    config = compose_config(
        [
            "experiment=echo",
            f"prompts.path={root}/prompts.jsonl",
            f"run.dir={root}/run",
            "run.unit_size=3",
            "calibrate.units=2",
            "generators.main.model.echo.output_tokens=10",
        ]
    )
    with inline_runs():
        measured = calibrate(config, quiet=True)
    assert measured["generate-main"].requests == 6
    assert measured["generate-main"].completions == 24
    assert "generate-main" in format_calibration(measured, config.run.dir)
    return config


def test_calibrate_leaves_the_figures_only(calibrated: Config) -> None:
    directory = Path(calibrated.run.dir)
    assert not directory.with_name("run.calibrate").exists()
    assert not (directory / "stages").exists()
    stored = json.loads((directory / CALIBRATION).read_text())
    assert stored["units"] == 2
    assert 5 <= stored["stages"]["generate-main"]["output_tokens"] <= 15


def test_plan_goes_by_the_figures(calibrated: Config) -> None:
    stored = json.loads((Path(calibrated.run.dir) / CALIBRATION).read_text())["stages"]
    ledger = read_ledger(calibrated)
    assert ledger["judge"].input_tokens == stored["judge"]["input_tokens"]
    assert ledger["judge"].units_done == 0
    assert ledger["judge"].per_replica
    work = {item.name: item for item in make_plan(calibrated, ledger).work}
    assert work["generate-main"].output_tokens == pytest.approx(stored["generate-main"]["output_tokens"])
    assert work["generate-main"].units_total == 7


def test_plan_leaves_the_figures_of_another_stage_out(calibrated: Config) -> None:
    main = calibrated.generators["main"]
    longer = replace(main, sampling=replace(main.sampling, max_tokens=7))
    ledger = read_ledger(replace(calibrated, generators={"main": longer}))
    assert ledger["generate-main"].output_tokens is None
    assert ledger["judge"].output_tokens is None  # it judges what that generator writes


def test_plan_leaves_the_speed_of_another_gpu_out(calibrated: Config) -> None:
    other = compose_config(["experiment=echo", "cluster=1xh100"]).cluster
    ledger = read_ledger(replace(calibrated, cluster=other))
    assert ledger["judge"].output_tokens_per_s is None
    assert ledger["judge"].output_tokens is not None


def test_speed_of_a_model_holds_for_its_other_settings_on_the_same_gpus(tmp_path: Path) -> None:
    """A calibration on two H100 found 0.8 of the planned speed; then the completions are let grow longer."""
    write_prompts(tmp_path / "prompts.jsonl", 20)
    chosen = ["model@generators.main.model=llama-3.3-70b-fp8", "generators.main.model.tensor_parallel_size=2"]
    places = [f"prompts.path={tmp_path}/prompts.jsonl", f"run.dir={tmp_path}", "cluster=8xh100-80"]
    config = compose_config(["experiment=echo", *chosen, *places])
    model, cluster = config.generators["main"].model, config.cluster
    plain = make_plan(config, read_ledger(config)).estimate.stage_s["generate-main"]
    known = StageCalibration(model.id, "another", 1, 1, 1.0, 1.0, 1.0, cluster.gpu.name, 2, speed_ratio=0.8)

    def plan_with(entry: StageCalibration) -> RunPlan:
        (tmp_path / CALIBRATION).write_text(json.dumps({"units": 1, "stages": {"generate-main": asdict(entry)}}))
        return make_plan(config, read_ledger(config))

    assert plain is not None
    assert plan_with(known).estimate.stage_s["generate-main"] == pytest.approx(plain / 0.8)
    assert "generate-main: 0.80 times the planned speed" in format_plan(plan_with(known))
    for other in (replace(known, gpus=4), replace(known, gpu="L4"), replace(known, model="org/other")):
        assert plan_with(other).estimate.stage_s["generate-main"] == pytest.approx(plain)


def test_run_after_a_calibration_starts_from_nothing(calibrated: Config) -> None:
    from synthgen.runtime.run import run

    with inline_runs():
        report = run(calibrated, quiet=True)
    assert report["stages"]["judge"]["reused_units"] == 0
    assert report["stages"]["judge"]["units"] == 7
    assert not read_ledger(calibrated)["judge"].per_replica  # now the run's own units tell
