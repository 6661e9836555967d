from __future__ import annotations

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
    check_pairs(config, ["main"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PairsConfig(min_margin=-1.0), r"pairs\.min_margin=-1\.0 must not be negative"),
        (PairsConfig(max_pairs_per_prompt=0), r"pairs\.max_pairs_per_prompt=0 must be at least 1"),
        (PairsConfig(max_length_ratio=0.5), r"pairs\.max_length_ratio=0\.5 must be at least 1"),
        (PairsConfig(max_similarity=95.0), r"pairs\.max_similarity=95\.0 must lie in 0\.\.1"),
        (PairsConfig(kto=KtoConfig(high=2.0, low=2.0)), r"pairs\.kto\.low=2\.0 must lie below pairs\.kto\.high=2\.0"),
        (PairsConfig(policy="on_policy"), r"pairs\.generator=None must name a generator .*: a, b"),
        (PairsConfig(policy="on_policy", generator="c"), r"pairs\.generator=c must name a generator .*: a, b"),
        (PairsConfig(generator="a"), r"pairs\.generator=a needs pairs\.policy=on_policy \(it is best_worst\)"),
    ],
)
def test_check_pairs_names_the_key_the_value_and_the_mend(config: PairsConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_pairs(config, ["b", "a"])


def test_rows_have_no_name_that_trl_means_something_else_by() -> None:
    reserved = {"messages", "tools", "image", "images", "chat_template_kwargs", "margin", "text"}
    for schema, own in ((PAIRS_SCHEMA, {"completion", "label"}), (KTO_SCHEMA, {"chosen", "rejected"})):
        names = set(schema.names)
        assert not names & (reserved | own)
        assert not [name for name in names if name.endswith("_ids") or name.startswith(("ref_", "KL_"))]
