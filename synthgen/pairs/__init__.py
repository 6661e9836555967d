"""From judgements to training data: scores, pairs, KTO rows, and what became of every prompt."""

from synthgen.pairs.again import pair_generations
from synthgen.pairs.counts import PairCounts
from synthgen.pairs.pairing import UnitPairs, fit_unit, pair_unit
from synthgen.pairs.scorers import Fit, list_thresholds, needs_fit
from synthgen.pairs.scores import SCORES_SCHEMA, score_unit
from synthgen.pairs.settings import check_pairs

__all__ = [
    "SCORES_SCHEMA",
    "Fit",
    "PairCounts",
    "UnitPairs",
    "check_pairs",
    "fit_unit",
    "list_thresholds",
    "needs_fit",
    "pair_generations",
    "pair_unit",
    "score_unit",
]

PUBLIC = ("counts", "eligibility", "index", "ratings", "scorers")
IMPORTS = ("config",)
