"""Pairing anew from Python."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from synthgen.config import PairsConfig
from synthgen.errors import ConfigError, one_line

if TYPE_CHECKING:
    import pyarrow as pa

    from synthgen.pairs import UnitPairs


def pair(generations: Any, *, seed: int = 0, prompts: pa.Table | None = None, **settings: Any) -> UnitPairs:
    """Return the pairs that scored completions give under other settings; nothing is generated or judged.

    Args:
        generations: the data set's config `generations`: a `datasets.Dataset`, a polars frame or an Arrow table.
        seed: `run.seed` of the run.
        prompts: PROMPTS_SCHEMA; gives the columns `source` and `metadata`, which are empty without it.
        settings: keys of `pairs`, such as `policy="best_random"`, `min_margin=0.5` (docs/pairs.md).

    Returns:
        UnitPairs: `pairs` and `kto` (Arrow tables; `datasets.Dataset(result.pairs)` trains) and `counts`.

    Raises:
        ConfigError: a setting is unknown or cannot work.
    """
    from synthgen.pairs import pair_generations

    return pair_generations(_to_arrow(generations), _settings(settings), run_seed=seed, prompts=prompts)


def _settings(settings: dict[str, Any]) -> PairsConfig:
    import difflib

    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [field.name for field in fields(PairsConfig)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"pairs.{name} is not a configuration key; {hint}")
    try:
        return cast(PairsConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PairsConfig), settings)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"pairs: {one_line(error)}") from error


def _to_arrow(generations: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(generations, pa.Table):
        return generations
    if hasattr(generations, "to_arrow"):  # polars
        return generations.to_arrow()
    if hasattr(generations, "with_format"):  # datasets, whose indices (a filter, a shuffle) count
        return generations.with_format("arrow")[:]
    raise TypeError(f"generations is a {type(generations).__name__}; give a data set, a polars frame or an Arrow table")
