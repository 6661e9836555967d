"""`synthgen models model=<name> cluster=<preset>`: which formats of a model fit, and which one to take."""

from __future__ import annotations

import itertools
import re

import pytest

from synthgen.cli import run_command
from synthgen.config import ClusterConfig
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.planning import list_models
from synthgen.planning.choices import list_formats


def cluster_of(name: str) -> ClusterConfig:
    return compose_config(["experiment=echo", f"cluster={name}"]).cluster


def test_formats_that_fit_come_first_the_least_loss_before_speed() -> None:
    choices = list_formats("llama-3.1-70b", cluster_of("8xh100-80"))
    fitting = [one for one in choices if not one.problem]
    assert fitting == choices[: len(fitting)]
    tiers = [one.loss.tier for one in fitting]
    assert tiers == sorted(tiers)
    assert {"llama-3.1-70b", "llama-3.1-70b-fp8", "llama-3.1-70b-awq-int4"} <= {one.name for one in fitting}
    for one, other in itertools.pairwise(fitting):
        if one.loss.tier == other.loss.tier:
            assert (one.tokens_per_s or 0) >= (other.tokens_per_s or 0)


def test_any_entry_of_a_model_stands_for_all_of_its_formats() -> None:
    names = {one.name for one in list_formats("llama-3.1-8b-fp8", cluster_of("1xh100"))}
    assert names == {one.name for one in list_formats("llama-3.1-8b", cluster_of("1xh100"))}
    assert {"llama-3.1-8b", "llama-3.1-8b-fp8", "llama-3.1-8b-awq-int4"} <= names


def test_command_says_what_fits_and_why_the_rest_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "model=llama-3.1-70b", "cluster=1xh100"]) == 0
    table, _, rest = capsys.readouterr().out.partition("\n\nllama-3.1-70b (BF16)")
    assert re.search(r"^llama-3\.1-70b-awq-int4 +INT4 \(awq\) +37\.0 +1 +1 ", table, re.MULTILINE)
    assert "does not fit on 1 × H100-80" in rest
    assert "try model=llama-3.1-70b-fp8" in rest
    known = {model.name for model in list_models()}
    assert set(re.findall(r"try model=(\S+)", rest)) <= known


def test_unknown_model_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"model=lama-3\.1-70b is not in the catalog, or has no numbers there"):
        list_formats("lama-3.1-70b", cluster_of("1xh100"))
