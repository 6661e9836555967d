from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from synthgen.config import KtoConfig, PairsConfig
from synthgen.errors import ConfigError
from synthgen.pairs import check_pairs
from synthgen.pairs.policies import POLICIES
from synthgen.records import KTO_SCHEMA, PAIRS_SCHEMA

CONF = Path(__file__).parents[2] / "conf" / "pairs"


@pytest.mark.parametrize("policy", POLICIES.names)
def test_every_policy_has_a_shipped_file_that_is_valid(policy: str) -> None:
    merged = OmegaConf.merge(OmegaConf.structured(PairsConfig), OmegaConf.load(CONF / f"{policy}.yaml"))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, PairsConfig)
    assert config.policy == policy
    if policy == "by_generator":  # its file leaves both names to the user
        config.chosen_generator, config.rejected_generator = "main", "other"
    check_pairs(config, ["main", "other"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PairsConfig(min_margin=-1.0), r"pairs\.min_margin=-1\.0 must not be negative"),
        (PairsConfig(max_margin=-1.0), r"pairs\.max_margin=-1\.0 must be a number of points, not negative"),
        (PairsConfig(max_score_std=float("nan")), r"pairs\.max_score_std=nan must be a number of points"),
        (PairsConfig(min_margin=2.0, max_margin=1.0), r"pairs\.max_margin=1\.0 lies below pairs\.min_margin=2\.0"),
        (PairsConfig(max_pairs_per_prompt=0), r"pairs\.max_pairs_per_prompt=0 must be at least 1"),
        (PairsConfig(max_length_ratio=0.5), r"pairs\.max_length_ratio=0\.5 must be at least 1"),
        (PairsConfig(max_similarity=95.0), r"pairs\.max_similarity=95\.0 must lie in 0\.\.1"),
        (PairsConfig(kto=KtoConfig(high=2.0, low=2.0)), r"pairs\.kto\.low=2\.0 must lie below pairs\.kto\.high=2\.0"),
        (PairsConfig(policy="on_policy"), r"pairs\.generator=None must name a generator .*: a, b"),
        (PairsConfig(policy="on_policy", generator="c"), r"pairs\.generator=c must name a generator .*: a, b"),
        (PairsConfig(policy="by_generator"), r"pairs\.chosen_generator=None must name a generator .*: a, b"),
        (
            PairsConfig(policy="by_generator", chosen_generator="a", rejected_generator="a"),
            r"pairs\.chosen_generator and pairs\.rejected_generator are both a; name two: a, b",
        ),
        (PairsConfig(chosen_generator="a"), r"pairs\.chosen_generator=a needs pairs\.policy=by_generator"),
        (PairsConfig(score="rm"), r"pairs\.score: rm is no scorer of this run; there are: judge"),
        (PairsConfig(weights={"rm": 1.0}), r"pairs\.weights\.rm: rm is no scorer of this run; there are: judge"),
        (PairsConfig(weights={"judge": 0.0}), r"pairs\.weights=.*: one weight at least must not be 0"),
        (PairsConfig(weights={"judge": float("nan")}), r"pairs\.weights\.judge=nan must be a number"),
        (PairsConfig(score="judge", weights={"judge": 1.0}), r"pairs\.score=judge and pairs\.weights both say"),
        (PairsConfig(chosen_must_pass=["m"]), r"pairs\.chosen_must_pass\[0\]: m is no scorer of this run"),
        (PairsConfig(rejected_must_fail=["judge", "m"]), r"pairs\.rejected_must_fail\[1\]: m is no scorer"),
        (PairsConfig(max_length_gap=-1), r"pairs\.max_length_gap=-1 must be at least 0"),
        (PairsConfig(generator="a"), r"pairs\.generator=a needs pairs\.policy=on_policy \(it is best_worst\)"),
    ],
)
def test_check_pairs_names_the_key_the_value_and_the_mend(config: PairsConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_pairs(config, ["b", "a"])


def test_check_pairs_wants_something_that_scores() -> None:
    with pytest.raises(ConfigError, match=r"pairs\.policy=best_worst needs scores, and nothing scores"):
        check_pairs(PairsConfig(), ["a"], [])
    with pytest.raises(ConfigError, match=r"pairs\.score is not set, and there are several scorers: m, w"):
        check_pairs(PairsConfig(), ["a"], ["m", "w"])
    by_generator = PairsConfig(policy="by_generator", chosen_generator="a", rejected_generator="b")
    check_pairs(by_generator, ["a", "b"], [])
    check_pairs(PairsConfig(), ["a"], ["m"])
    check_pairs(PairsConfig(), ["a"], ["judge", "m", "w"])
    for key, value in (("min_margin", 1.0), ("length_control", True)):
        with pytest.raises(ConfigError, match=rf"pairs\.{key}={value} needs scores"):
            check_pairs(replace(by_generator, **{key: value}), ["a", "b"], [])


def test_rows_have_no_name_that_trl_means_something_else_by() -> None:
    reserved = {"messages", "tools", "image", "images", "chat_template_kwargs", "margin", "text"}
    for schema, own in ((PAIRS_SCHEMA, {"completion", "label"}), (KTO_SCHEMA, {"chosen", "rejected"})):
        names = set(schema.names)
        assert not names & (reserved | own)
        assert not [name for name in names if name.endswith("_ids") or name.startswith(("ref_", "KL_"))]
