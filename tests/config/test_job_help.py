"""The help of the jobs: what they are for, and every key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from synthgen.quantize.job import main as quantize
from synthgen.quantize.settings import QuantizeConfig
from synthgen.recovery.job import main as recover
from synthgen.recovery.settings import RecoveryConfig
from synthgen.training.train import TrainConfig
from synthgen.training.train import main as train


@pytest.mark.parametrize(
    ("main", "schema", "command"),
    [
        (quantize, QuantizeConfig, "jobs/quantize.py"),
        (recover, RecoveryConfig, "jobs/recovery.py"),
        *[(partial(train, method), TrainConfig, f"jobs/train_{method}.py") for method in ("dpo", "kto", "sft")],
    ],
)
@pytest.mark.parametrize("given", [["--help"], ["model=org/name", "-h"]])
def test_help_of_a_job_has_its_command_and_all_of_its_keys(
    main: Callable[[Sequence[str]], int],
    schema: type[Any],
    command: str,
    given: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python {command} " in said
    assert all(f"  {field.name}: " in said for field in dataclasses.fields(schema))
    assert '"""' not in said
    assert "MISSING" not in said
    assert ("Values of scheme: W8A8, FP8_DYNAMIC, " in said) == (schema is QuantizeConfig)
