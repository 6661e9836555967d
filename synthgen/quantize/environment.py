"""llm-compressor's packages, in a directory of their own: it wants other versions than vLLM does."""

from __future__ import annotations

from pathlib import Path

from synthgen.models.packages import ensure_packages

PACKAGES = (
    "llmcompressor==0.14.0",
    "compressed-tensors==0.19.0",
    "transformers==5.17.0",
    "huggingface-hub==1.33.0",
    "auto-round==0.15.1",
    "loguru==0.7.3",
)
"""Each without its dependencies: those are installed with the project."""


def ensure_environment() -> Path:
    """Return the directory of the packages; the first time they are fetched (14 MB).

    Raises:
        ConfigError: they cannot be had.
    """
    return ensure_packages("llm-compressor", PACKAGES)
