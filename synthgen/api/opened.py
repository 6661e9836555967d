"""A finished run, opened: its data set, its report, what failed."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from synthgen.config import Config
from synthgen.config.saved import read_saved_config
from synthgen.errors import ConfigError
from synthgen.export.files import ROOT
from synthgen.export.finished import open_dataset, open_report
from synthgen.ledger.run_dir import RunDir
from synthgen.pairs.estimates import NO_LIMIT
from synthgen.pairs.flips import read_curve

if TYPE_CHECKING:
    import datasets
    import polars as pl
    import pyarrow as pa

    from synthgen.pairs import UnitPairs


def open_run(path: str | os.PathLike[str]) -> Run:
    """Return the run in a directory (a path or a URL of an object store), finished or not.

    Raises:
        ConfigError: there is none.
    """
    run = Run(RunDir(os.fspath(path), reads_only=True))
    run.status()  # refuses a directory without a run
    return run


class Run:
    """A run directory. What needs a finished run raises ConfigError before that.

    Args:
        run_dir: where it lies.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir

    def __repr__(self) -> str:
        return f"Run({self.url!r})"

    @property
    def url(self) -> str:
        """Its directory."""
        return self._run_dir.url

    def status(self) -> dict[str, Any]:
        """Return how far it is, as `synthgen status status.format=json` prints it."""
        from synthgen.observe.status import read_status

        return read_status(self._run_dir)

    @property
    def report(self) -> dict[str, Any]:
        """The report of the last export (docs/trust.md)."""
        return open_report(self.url, "report")[1]

    @cached_property
    def config(self) -> Config:
        """The configuration that made the data set."""
        return read_saved_config(open_dataset(self.url, "publish")[1].config)

    @property
    def configs(self) -> list[str]:
        """Names of the data set's configs, such as `default`, `kto`, `generations`."""
        return [entry["config_name"] for entry in self._entries]

    def dataset(self, name: str = "default", split: str = "train") -> datasets.Dataset:
        """Return a split of a config of the data set, as `load_dataset` gives it from the Hub.

        Raises:
            ConfigError: the data set has no such config or split.
        """
        import datasets
        import pyarrow.parquet as pq

        root = self._run_dir.storage.root
        files = [] if root is None else [str(root / ROOT / path) for path in self._files(name, split)]
        if not any(pq.read_metadata(file).num_rows for file in files):  # which `load_dataset` refuses
            return datasets.Dataset(self.table(name, split))
        loaded = datasets.load_dataset("parquet", data_files=files, split="train")
        assert isinstance(loaded, datasets.Dataset)
        return loaded

    def frame(self, name: str = "default", split: str = "train") -> pl.DataFrame:
        """Return the same as a polars frame."""
        import polars as pl

        found = pl.from_arrow(self.table(name, split))
        assert isinstance(found, pl.DataFrame)
        return found

    def table(self, name: str = "default", split: str = "train") -> pa.Table:
        """Return the same as an Arrow table, in memory."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = self._files(name, split)
        read = self._run_dir.storage.read
        return pa.concat_tables(pq.read_table(pa.BufferReader(read(f"{ROOT}/{path}"))) for path in paths)

    def failures(self) -> list[dict[str, Any]]:
        """Return what failed, a mapping per request: `stage`, `unit`, `reason`, `message`, `input`, …"""
        found = []
        for path in sorted(self._run_dir.storage.list("failures")):
            if path.endswith(".jsonl"):
                lines = self._run_dir.storage.read(path).decode("utf-8", "replace").splitlines()
                found += [_read_line(line) for line in lines if line.strip()]
        return found

    def pair(self, *, seed: int | None = None, **settings: Any) -> UnitPairs:
        """Return the pairs that its completions give under other settings; the run stays as it is.

        Args:
            seed: in the place of `run.seed`, for policies that draw; None: the run's own.
            settings: keys of `pairs` to change; the others are those of the run. Without any: the run's own pairs.

        Raises:
            ConfigError: a setting is unknown or cannot work.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        from synthgen.api.pairing import pair_run
        from synthgen.flow import read_prompts
        from synthgen.records import concat_units

        splits = self._splits("generations")
        generations = pa.concat_tables([self.table("generations", split) for split in splits])
        tables = list(read_prompts(self._run_dir, self.config))
        prompts = concat_units(tables)
        prompts = prompts.filter(pc.is_in(prompts["prompt_id"], pc.unique(generations["prompt_id"])))
        if "prompts" in settings:
            raise ConfigError("pairs.prompts is not a configuration key; a run has its own")
        own = asdict(self.config.pairs)
        target, own["target"] = own["target"], None
        merged = self._settle(own, settings)
        seed = self.config.run.seed if seed is None else seed
        found = pair_run(generations, merged, seed=seed, prompts=prompts, first_unit=tables[0])
        if target is None or settings:
            return found
        there = pa.concat_tables([self.table("default", split) for split in self._splits("default")])
        kept = set(zip(there["prompt_id"].to_pylist(), there["pair_index"].to_pylist(), strict=True))
        rows = zip(found.pairs["prompt_id"].to_pylist(), found.pairs["pair_index"].to_pylist(), strict=True)
        return replace(found, pairs=found.pairs.filter(pa.array([key in kept for key in rows], pa.bool_())))

    def _settle(self, own: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the run's settings of pairs with `settings` over them, numbers in the place of what is estimated."""
        report = self.report
        kto = (report.get("labels") or {}).get("kto") or {}
        if kto.get("high") is not None and "kto" not in settings:
            own["kto"] |= {"high": kto["high"], "low": kto["low"]}
        merged = {**own, **settings}
        flips = (report.get("trust") or {}).get("flips")
        probability = merged["max_flip_probability"]
        if flips and isinstance(probability, float) and 0 < probability < NO_LIMIT:
            needed = read_curve(flips).margin(probability)
            merged["min_margin"] = max(float(merged["min_margin"]), inf if needed is None else needed)
            merged["max_flip_probability"] = NO_LIMIT
        return merged

    @property
    def _entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = open_dataset(self.url, "publish")[1].dataset["configs"]
        return entries

    def _splits(self, name: str) -> dict[str, str]:
        """Return the pattern of the files of each split of a config."""
        for entry in self._entries:
            if entry["config_name"] == name:
                return {files["split"]: files["path"] for files in entry["data_files"]}
        raise ConfigError(f"{self.url} has no config {name!r}; it has {', '.join(self.configs)}")

    def _files(self, name: str, split: str) -> list[str]:
        """Return the paths within the data set of a split's files."""
        patterns = self._splits(name)
        if split not in patterns:
            raise ConfigError(f"{self.url}: config {name!r} has no split {split!r}; it has {', '.join(patterns)}")
        paths = [path.removeprefix(f"{ROOT}/") for path in self._run_dir.storage.list(ROOT)]
        return sorted(path for path in paths if fnmatch.fnmatch(path, patterns[split]))


def _read_line(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:  # the last line before a death
        return {"reason": "unreadable_line", "raw": line}
    return found
