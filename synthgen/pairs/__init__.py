"""From judgements to training data: scores, pairs, KTO rows, and what became of every prompt."""

from synthgen.pairs.again import pair_generations
from synthgen.pairs.combine import Fit, list_thresholds, needs_fit
from synthgen.pairs.counts import PairCounts
from synthgen.pairs.estimates import Estimates, estimate_first, take_first
from synthgen.pairs.pairing import UnitPairs, fit_unit, pair_unit
from synthgen.pairs.scores import SCORES_SCHEMA, score_unit
from synthgen.pairs.settings import check_pairs

__all__ = [
    "SCORES_SCHEMA",
    "Estimates",
    "Fit",
    "PairCounts",
    "UnitPairs",
    "check_pairs",
    "estimate_first",
    "fit_unit",
    "list_thresholds",
    "needs_fit",
    "pair_generations",
    "pair_unit",
    "score_unit",
    "take_first",
]

PUBLIC = ("counts", "eligibility", "estimates", "flips", "index", "place", "ratings", "refusals", "combine")
IMPORTS = ("config",)
