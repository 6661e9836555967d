"""Which completions may be chosen: not those that were cut off, are empty, or do nothing but refuse.

And which may stand in a pair at all, or in a row of KTO: what the model ended itself. Half a text that a limit, an
endpoint's error, its filter or a tool call ended, whatever the reason's name, shows where it was cut before it shows
how good it is, so it must not be rejected either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.pairs.refusals import find_refusals
from synthgen.records import WHOLE_FINISH_REASONS, join_calls

FAULTS = ("chosen_cut_off", "chosen_empty", "chosen_refusal", "chosen_failed")
"""Why a completion must not be chosen, in the order in which they are looked for. The last is not of its text: it does
not pass what `pairs.chosen_must_pass` names (`add_gate`)."""


def find_faults(generations: pa.Table, drop_refusals: bool) -> npt.NDArray[np.int8]:
    """Return, per completion, the index in FAULTS of the first fault that it has, -1 without one.

    Args:
        generations: GENERATIONS_SCHEMA. Failed rows (text null) count as empty; what calls a tool does not.
        drop_refusals: whether refusals count as a fault.
    """
    text = generations["text"]
    faults = np.full(len(generations), -1, dtype=np.int8)
    if drop_refusals:
        faults[_mask(find_refusals(text))] = 2
    faults[~_mask(pc.match_substring_regex(join_calls(generations), _VISIBLE))] = 1
    faults[_mask(pc.equal(generations["finish_reason"], "length"))] = 0
    return faults


def add_gate(faults: npt.NDArray[np.int8], passes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """Return `faults` with the last of FAULTS for completions that do not pass and have no other."""
    return np.where((faults < 0) & ~passes, len(FAULTS) - 1, faults).astype(np.int8)


def find_whole(generations: pa.Table, *, cut_off: bool) -> npt.NDArray[np.bool_]:
    """Return, per completion, whether there is a text that the model ended itself.

    Args:
        generations: GENERATIONS_SCHEMA. A text without a finish reason (from elsewhere) counts as whole.
        cut_off: count as whole what `max_tokens` cut off.
    """
    finish = generations["finish_reason"]
    reasons = WHOLE_FINISH_REASONS if cut_off else ("stop",)
    broken = _mask(pc.invert(pc.is_in(finish, pa.array([*reasons, None], pa.string()))))
    return np.asarray(pc.is_valid(generations["text"]).to_numpy(), dtype=bool) & ~broken


# Anything that prints: not a space, a control or formatting character (zero width), or an unassigned code point.
_VISIBLE = r"[^\s\p{Z}\p{C}]"


def _mask(condition: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(condition, False).to_numpy(), dtype=bool)
