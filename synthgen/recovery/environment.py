"""lm-eval's packages, in a directory of their own: its tasks want another antlr4 than Hydra does."""

from __future__ import annotations

from pathlib import Path

from synthgen.models.packages import ensure_packages, find_packages

NAME = "lm-eval"
PACKAGES = (
    "lm-eval==0.4.13",
    "evaluate==0.4.6",
    "pytablewriter==1.2.1",
    "DataProperty==1.1.1",
    "mbstrdecoder==1.1.5",
    "chardet==7.7.0",
    "pathvalidate==3.3.1",
    "tabledata==1.3.5",
    "tcolorpy==0.1.7",
    "typepy==2.0.0",
    "rouge-score==0.1.2",
    "absl-py==2.5.1",
    "nltk==3.10.4",
    "joblib==1.6.0",
    "sacrebleu==2.6.0",
    "portalocker==4.4.2",
    "tabulate==0.10.0",
    "colorama==0.4.6",
    "lxml==6.1.3",
    "scikit-learn==1.9.1",
    "threadpoolctl==3.8.0",
    "narwhals==2.29.0",
    "sqlitedict==2.1.0",
    "word2number==1.1",
    "more-itertools==11.2.1",
    "immutabledict==4.3.1",
    "antlr4-python3-runtime==4.11.0",
)
"""Each without its dependencies: those are here, or installed with the project."""


def ensure_environment() -> Path:
    """Return the directory of the packages; the first time they are fetched (about 30 MB, 180 MB on the disk).

    Raises:
        ConfigError: they cannot be had.
    """
    return ensure_packages(NAME, PACKAGES)


def is_there() -> bool:
    """Return whether they have been fetched."""
    return find_packages(NAME, PACKAGES).is_dir()
