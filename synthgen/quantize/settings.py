"""What a quantization is asked for, and what cannot work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from synthgen.config.compose import compose_job
from synthgen.errors import ConfigError


class Scheme(str, Enum):
    """How numbers are kept; the names are llm-compressor's."""

    W8A8 = "W8A8"  # INT8 weights (a scale per output) and activations (per token), SmoothQuant and GPTQ
    FP8_DYNAMIC = "FP8_DYNAMIC"  # FP8 weights (a scale per output) and activations (per token)
    FP8_BLOCK = "FP8_BLOCK"  # FP8 weights, a scale per tile of 128 x 128
    W4A16 = "W4A16"  # INT4 weights, a scale for every 128 inputs, GPTQ
    NVFP4 = "NVFP4"  # FP4 weights and activations, a scale for every 16

    @property
    def calibrated(self) -> bool:
        """Whether data pass through the model; the others round the weights alone."""
        return self in (Scheme.W8A8, Scheme.W4A16, Scheme.NVFP4)


@dataclass
class QuantizeConfig:
    """What `jobs/quantize.py` reads (`conf/quantize/default.yaml`)."""

    model: str = MISSING  # Hub id, local directory, `builtin:tiny` or `builtin:smollm2`
    model_revision: str | None = None
    scheme: Scheme = MISSING
    output_dir: str = MISSING
    # What it is calibrated with: a run directory, or prompts (file, directory, Hub id); null: the shipped prompts.
    data: str | None = None
    samples: int = 512  # conversations of it
    max_length: int = 2048  # tokens of one, what is longer is cut
    seed: int = 0  # which conversations of a run
    ignore: list[str] = field(default_factory=lambda: ["lm_head"])  # layers that stay as they are; `re:…` is a pattern
    smoothing: float = 0.8  # W8A8: how much of the activations' spread the weights take over (SmoothQuant); 0: none
    dampening: float = 0.01  # GPTQ: what is added to the diagonal of the Hessian, a share of its mean
    group_size: int | None = None  # W4A16: inputs of a scale; null: 128, or what divides the model's widths


def compose_quantize_config(overrides: Sequence[str]) -> QuantizeConfig:
    """Return `conf/quantize/default.yaml` with Hydra overrides. Raises ConfigError for what is misspelt or missing."""
    config = compose_job("quantize", "default", QuantizeConfig, overrides)
    _check(config)
    return config


def _check(config: QuantizeConfig) -> None:
    for key in ("samples", "max_length"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{key}={getattr(config, key)} must be at least 1")
    if not 0 <= config.smoothing < 1:
        raise ConfigError(f"smoothing={config.smoothing} must be from 0 (none) to below 1")
    if not 0 < config.dampening < 1:
        raise ConfigError(f"dampening={config.dampening} must be above 0 and below 1")
    if config.group_size is not None and (config.scheme is not Scheme.W4A16 or config.group_size < 1):
        raise ConfigError(f"group_size={config.group_size} is of scheme=W4A16, and at least 1; leave it out")
