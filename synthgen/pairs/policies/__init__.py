"""The pair policies: scored completions in, candidate pairs out.

A policy is a pure function `propose(scored, config) -> candidates`. It handles any number of prompts at once and treats
each as if it were alone, so its formula reads as that of one prompt.

`scored` has a row per completion that has a score:

| column | type | meaning |
|---|---|---|
| `prompt` | int64 | number of the prompt |
| `completion` | int64 | number of the completion |
| `score` | float64 | higher is better |
| `may_be_chosen` | bool | not cut off, empty or a refusal (synthgen.pairs.eligibility); passes `chosen_must_pass` |
| `may_be_rejected` | bool | through `pairs.rejected_must_fail`; all are where that is empty |
| `generator` | str | name of the generator |
| `draw` | uint64 | a number drawn at random from the run's seed and the completion's identity |

Within a prompt its rows go from the best to the worst score, and by `draw` where the scores tie. Taking the first thus
breaks a tie at random, and sorting by `draw` is sampling at random; no policy sees the order in which completions came.

`candidates` has the columns `prompt`, `chosen`, `rejected` (numbers of completions), one row per candidate pair, a
prompt's best candidates first. `chosen` may be chosen and scores higher than `rejected`, which may be rejected.

For `by_generator` alone the score may be NaN (such rows come last), and need not be higher on the chosen side.

A package adds a policy by an entry point in the group `synthgen.pair_policies` that names its function.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from synthgen.config import PairsConfig
from synthgen.config.registry import Registry

Policy = Callable[[pl.DataFrame, PairsConfig], pl.DataFrame]

ON_POLICY = "on_policy"
"""The policy that needs `pairs.generator`."""
BY_GENERATOR = "by_generator"
"""The policy that needs `pairs.chosen_generator` and `pairs.rejected_generator`, and no score."""
POLICIES = Registry(
    "synthgen.pair_policies",
    {
        "best_worst": "synthgen.pairs.policies.best_worst:propose",
        "best_random": "synthgen.pairs.policies.best_random:propose",
        "best_vs_mu_minus_2sigma": "synthgen.pairs.policies.best_vs_mu_minus_2sigma:propose",
        "all_pairs": "synthgen.pairs.policies.all_pairs:propose",
        ON_POLICY: "synthgen.pairs.policies.on_policy:propose",
        BY_GENERATOR: "synthgen.pairs.policies.by_generator:propose",
    },
)


def find_policy(name: str) -> Policy:
    """Return the policy of `pairs.policy`. Raises ConfigError for an unknown name."""
    found: Policy = POLICIES.load(name, "pairs.policy")
    return found
