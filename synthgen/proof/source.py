"""What a proof starts from: a run's data set as its export left it, and the run's prompts. Reads files only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config import Config, ExportColumns, GeneratorTurns, ProveTrain
from synthgen.config.saved import read_saved_config
from synthgen.errors import ConfigError
from synthgen.export.files import ROOT
from synthgen.export.finished import open_dataset
from synthgen.export.manifest import MEND, Manifest, ManifestFile, hash_file
from synthgen.export.proofs import identify_data
from synthgen.flow import read_prompts
from synthgen.ledger.run_dir import RunDir
from synthgen.prompts import PromptSource
from synthgen.records import count_open_turns

ROWS = {ProveTrain.dpo: "default", ProveTrain.sft: "default", ProveTrain.kto: "kto"}
"""Config of the data set that a method trains on."""


@dataclass(frozen=True)
class Source:
    """A finished run.

    Attributes:
        root: its directory on this machine.
        made: the configuration that made its data set. data: hash of the files of pairs and KTO rows.
    """

    run_dir: RunDir
    root: Path
    manifest: Manifest
    made: Config
    data: str

    def read_rows(self, method: ProveTrain) -> pa.Table:
        """Return the rows that a method trains on, of all splits.

        Raises:
            ConfigError: there are none, or a file is missing or changed.
        """
        name = ROWS[method]
        tables = [self._read(file) for file in self._files(name)]
        if not any(table.num_rows for table in tables):
            raise ConfigError(f"run.dir={self.run_dir.url} has no row of {name!r} to train on; see docs/pairs.md")
        return pa.concat_tables(tables).replace_schema_metadata(None)

    def read_prompts(self) -> Iterator[pa.Table]:
        """Yield the run's prompts, a unit at a time, with the answers to their earlier turns; those that have an open
        turn left are left out."""
        for table in read_prompts(self.run_dir, self.made):
            whole = [count_open_turns(turns) == 0 for turns in table["messages"].to_pylist()]
            yield table.filter(pa.array(whole, pa.bool_())) if _answers_turns(self.made) else table

    def _files(self, name: str) -> list[ManifestFile]:
        entries = [entry for entry in self.manifest.dataset["configs"] if entry["config_name"] == name]
        patterns = [str(files["path"]) for entry in entries for files in entry["data_files"]]
        return [file for file in self.manifest.files if any(fnmatch.fnmatch(file.path, one) for one in patterns)]

    def _read(self, file: ManifestFile) -> pa.Table:
        path = self.root / ROOT / file.path
        if not path.is_file() or hash_file(path) != file.sha256:
            raise ConfigError(f"{path} is not what the export wrote; {MEND}")
        return pq.read_table(path)


def open_source(config: Config) -> Source:
    """Return the run in `config.run.dir`.

    Raises:
        ConfigError: it is not finished, is no run of preference data, or lies in an object store.
    """
    run_dir, manifest = open_dataset(config.run.dir, "prove")
    root = run_dir.storage.root
    if root is None:
        raise ConfigError(
            f"run.dir={config.run.dir}: prove trains on this machine and needs the run on its disk; "
            "copy the run directory here, or publish with publish.to_dir=… and train by hand (docs/training.md)"
        )
    made = read_saved_config(manifest.config)
    if made.export.columns is ExportColumns.minimal and _answers_turns(made):
        raise ConfigError(
            f"run.dir={config.run.dir}: with generators.<name>.turns=all the rows must say which prompt they are of, "
            "to hold some out; run it again with export.columns=all (nothing is generated again)"
        )
    if made.pipeline == "task":
        raise ConfigError(f"run.dir={config.run.dir} holds a task's data set; prove is for preference data")
    return Source(run_dir, root, manifest, made, identify_data(manifest))


def _answers_turns(made: Config) -> bool:
    return any(one.turns is GeneratorTurns.all for one in made.generators.values())


def read_side(config: Config) -> pa.Table | None:
    """Return the prompts of another kind, at most `prove.side_prompts`; None where there are to be none.

    Raises:
        ConfigError: `prove.side` cannot be read.
    """
    from dataclasses import replace

    path = config.prove.side
    if path is None:
        return None
    most = config.prove.side_prompts
    source = PromptSource(
        replace(
            config.prompts,
            path=path,
            limit=most,
            exclude=[],
            config=None,
            column=None,
            reference_column=None,
            turns=None,
        ),
        "prove.side",
    )
    tables = list(source.tables(rows_per_table=most))
    if not tables:
        raise ConfigError(f"prove.side={path} holds no usable prompt; give prove.side=null to go without")
    return pa.concat_tables(tables).replace_schema_metadata(None).slice(0, most)
