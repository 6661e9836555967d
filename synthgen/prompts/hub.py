"""Rows of data sets of the `datasets` library: saved on disk, or on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.errors import ConfigError, first_line, one_line
from synthgen.prompts.arrow import BATCH_ROWS, iterate_table
from synthgen.prompts.files import FileSource
from synthgen.prompts.rows import BadRow, Row

if TYPE_CHECKING:
    from datasets import Dataset

SAVED_MARKERS = ("state.json", "dataset_dict.json")
"""Either file marks a directory that `save_to_disk` wrote (of a Dataset, of a DatasetDict)."""


@dataclass(frozen=True)
class SavedSource:
    """A directory that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; `split` matters to the latter."""

    path: Path
    split: str

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    def identity(self) -> list[Any]:
        """Return the identities of all files in the directory."""
        files = sorted(file for file in self.path.rglob("*") if file.is_file())
        return ["saved", self.split, *(FileSource(file, str(file.relative_to(self.path))).identity() for file in files)]

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield the data set's rows, in its order."""
        from datasets import DatasetDict, load_from_disk

        try:
            loaded = load_from_disk(str(self.path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path} cannot be read as a saved data set: {first_line(error)}") from error
        if isinstance(loaded, DatasetDict):
            if self.split not in loaded:
                raise ConfigError(f"prompts.split={self.split}: {self.path} has the splits {', '.join(loaded)}")
            loaded = loaded[self.split]
        yield from iterate_dataset(loaded, self.name)


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub, pinned to the commit that `revision` (null: the default branch) names now."""

    path: str
    config: str | None
    split: str
    revision: str | None

    @property
    def name(self) -> str:
        """The data set's id."""
        return self.path

    @cached_property
    def commit(self) -> str | None:
        """The commit that `revision` names; where the Hub cannot be reached, `revision` as it is."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
        from huggingface_hub.errors import RevisionNotFoundError as NoRevisionError

        try:
            sha: str | None = HfApi().dataset_info(self.path, revision=self.revision).sha
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise ConfigError(
                f"prompts.path={self.path} is no file here and no data set that the Hub shows you; "
                "check the spelling, and HF_TOKEN where it is private or gated"
            ) from error
        except NoRevisionError as error:
            raise ConfigError(f"prompts.revision={self.revision} is unknown to the data set {self.path}") from error
        except (OfflineModeIsEnabled, _transport_error(), OSError):
            return self.revision  # `datasets` may have it in its cache
        return sha

    def identity(self) -> list[Any]:
        """Return id, configuration, split and commit."""
        return ["hub", self.path, self.config, self.split, self.commit]

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield the split's rows, in the data set's order."""
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        try:
            loaded = load_dataset(self.path, self.config, split=self.split, revision=self.commit)
        except (_transport_error(), ConnectionError) as error:
            raise ConfigError(
                f"prompts.path={self.path} is no file here, and the Hub cannot be reached ({one_line(error)}); "
                "check the path or the network"
            ) from error
        except (DatasetsError, OSError, ValueError) as error:
            raise ConfigError(
                f"prompts.path={self.path} (prompts.config={self.config or 'null'}, prompts.split={self.split}) "
                f"cannot be loaded from the Hub: {one_line(error)}"
            ) from error
        yield from iterate_dataset(loaded, self.name)


def _transport_error() -> type[Exception]:
    """Return the root class of the HTTP library's errors; the library differs between versions (httpx, httpx2)."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__bases__ if base is not OSError)


def iterate_dataset(dataset: Dataset, name: str) -> Iterator[Row | BadRow]:
    """Yield the rows of a loaded data set."""
    index = 0
    for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        yield from iterate_table(table, name, index)
        index += table.num_rows
