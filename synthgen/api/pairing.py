"""Pairing anew from Python."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from synthgen.config import PairsConfig
from synthgen.errors import ConfigError

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
        TypeError: `generations` is none of these, such as all splits at once.
        ValueError: it lacks a column, or holds a completion twice.
    """
    return pair_run(_to_arrow(generations), settings, seed=seed, prompts=prompts)


def pair_run(
    generations: pa.Table,
    settings: dict[str, Any],
    *,
    seed: int,
    prompts: pa.Table | None,
    first_unit: pa.Table | None = None,
) -> UnitPairs:
    """Return the same of a run; `first_unit`: its first unit's prompts, by which several scores get one scale."""
    from synthgen.export.calls import put_in_turns
    from synthgen.pairs import pair_generations

    fit_prompts = None if first_unit is None else first_unit["prompt_id"]
    found = pair_generations(generations, _settings(settings), run_seed=seed, prompts=prompts, fit_prompts=fit_prompts)
    tables = {name: put_in_turns(getattr(found, name)) for name in ("pairs", "kto", "generations")}
    return replace(found, **tables)


def _settings(settings: dict[str, Any]) -> PairsConfig:
    import numpy as np
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from synthgen.config.compose import explain_error

    settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    try:
        schema = OmegaConf.create({"pairs": OmegaConf.structured(PairsConfig)})
        merged = cast(Any, OmegaConf.merge(schema, {"pairs": settings}))
        return cast(PairsConfig, OmegaConf.to_object(merged.pairs))
    except OmegaConfBaseException as error:
        raise ConfigError(explain_error(error)) from error


def _to_arrow(generations: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(generations, pa.Table):
        return generations
    if hasattr(generations, "to_arrow"):  # polars
        return generations.to_arrow()
    import datasets

    if isinstance(generations, datasets.Dataset):  # its indices (a filter, a shuffle) count
        return generations.with_format("arrow")[:]
    kind = type(generations).__name__
    raise TypeError(f"generations is of type {kind}; give one split as a Dataset, a polars frame or an Arrow table")
