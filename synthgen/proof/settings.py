"""What a proof trains, and where it is kept: settings that follow from the configuration and the run's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from synthgen.config import Config, ModelConfig, ProveConfig, ProveServe, ProveTrain, SamplingConfig
from synthgen.config.public_names import name_public
from synthgen.config.scorers import list_scorers
from synthgen.config.settings import to_overrides
from synthgen.config.stage_names import JUDGE, OTHER_JUDGE
from synthgen.errors import ConfigError
from synthgen.flow import model_fields
from synthgen.models.gguf import ensure_dequantized, find_gguf
from synthgen.pairs.combine import resolve_weights
from synthgen.planning.hardware import resolve_cluster
from synthgen.records import stable_hex

VERSION = 1
"""Raise it where the same settings would train or choose otherwise."""
LEARNING_RATE = {True: 1e-4, False: 1e-6}
"""Of adapters (`prove.lora`), and of all weights."""
BATCH = 8
CURVE_POINTS = 20
CHECKPOINTS = 8
MERGED = "merged"
"""Where an adapter's directory holds its base with it."""


@dataclass(frozen=True)
class ProofSettings:
    """What all phases of a proof share.

    Attributes:
        model: what is trained and answers. sampling: how answers are drawn.
        holdout: share of the prompts that is held out. decides: the scorer whose word counts.
        own: scorers that had a part in making the data. others: those that had none.
        merged: adapters are merged into the weights before they answer.
    """

    prove: ProveConfig
    model: ModelConfig
    sampling: SamplingConfig
    holdout: float
    decides: str
    own: tuple[str, ...]
    others: tuple[str, ...]
    merged: bool = False

    @property
    def adapters(self) -> bool:
        """Whether one engine serves the base and what was trained, as adapters."""
        return self.prove.lora and not self.merged

    def find_place(self, root: Path, name: str) -> Path:
        """Return the directory that a trained model answers from."""
        trained = root / "models" / name
        return trained / MERGED if self.merged else trained

    def fingerprint(self, data: str, held_out: Sequence[str], side: Sequence[str]) -> str:
        """Return the name of the proof's directory: a hash of what is trained on what, and of who is asked.

        How answers are drawn and scored is hashed by their stages, so that another scorer does not train anew.
        """
        prove = self.prove
        fields = {
            "method": prove.train.value,
            "steps": prove.steps,
            "seed": prove.seed,
            "lora": prove.lora,
            "dtype": prove.dtype,
            "args": prove.args,
            "model": dict(model_fields(self.model)),
            "holdout": self.holdout,
        }
        return stable_hex(VERSION, data, fields, list(held_out), list(side), digits=12)

    def train_overrides(self, data: Path, output_dir: Path) -> list[str]:
        """Return the overrides of `conf/train/<method>.yaml` for one training."""
        prove = self.prove
        args: dict[str, Any] = {
            "max_steps": prove.steps,
            "learning_rate": LEARNING_RATE[prove.lora],
            "per_device_train_batch_size": BATCH,
            "gradient_accumulation_steps": 1,
            "logging_steps": max(1, prove.steps // CURVE_POINTS),
            "save_strategy": "steps",
            "save_steps": max(1, prove.steps // CHECKPOINTS),
            "save_total_limit": 2,
            "resume_from_checkpoint": True,
            "seed": prove.seed,
            "disable_tqdm": True,
            **prove.args,
        }
        settings = {
            "data": str(data),
            "data_config": "default",
            "eval_split": "none",
            "model": find_weights(self.model),
            "model_revision": self.model.revision,
            "output_dir": str(output_dir),
            "dtype": prove.dtype,
            "lora.enabled": prove.lora,
            **{f"++args.{name}": value for name, value in args.items()},
        }
        return to_overrides(settings)


def settle(config: Config, made: Config) -> ProofSettings:
    """Return the settings of a proof.

    Args:
        made: the configuration that made the data set.

    Raises:
        ConfigError: no model can be trained, or no scorer can decide.
    """
    prove = config.prove
    model = _find_model(config)
    own = tuple(name for name in list_scorers(made) if name == JUDGE or made.scorers[name].type != "recorded")
    others = (*prove.scorers, *([OTHER_JUDGE] if prove.judge.enabled else []))
    decides = prove.decide or next(iter(others), None) or _find_own(made, own)
    if decides is None:
        raise ConfigError(
            "the run has no scorer that could say whether answers got better; "
            "give prove.scorers.<name>.kind=… or prove.judge.enabled=true model@prove.judge.model=<name>"
        )
    if decides not in (*own, *others):
        raise ConfigError(f"prove.decide={decides} is no scorer; there are {', '.join((*own, *others))}")
    first = next((one for one in config.generators.values() if one.path is None), None)
    sampling = SamplingConfig() if first is None else first.sampling
    holdout = made.export.test_fraction or prove.holdout
    merged = prove.lora and _is_merged(prove, model, config)
    return ProofSettings(prove, model, sampling, holdout, decides, own, tuple(others), merged)


def _is_merged(prove: ProveConfig, model: ModelConfig, config: Config) -> bool:
    if prove.serve is not None:
        return prove.serve is ProveServe.merged
    return model.served_by.loads_checkpoint and resolve_cluster(config.cluster).gpus_per_node == 0


def find_weights(model: ModelConfig) -> str:
    """Return what TRL loads: a Hub id, a directory, a built-in model; a GGUF file's weights are written out first."""
    found = None if model.id.startswith("builtin:") else find_gguf(model)
    return model.id if found is None else str(ensure_dequantized(found.fetch()))


def _find_model(config: Config) -> ModelConfig:
    model = config.prove.model
    if not model.name and not model.id:
        mine = [one.model for one in config.generators.values() if one.path is None]
        if len(mine) != 1:
            raise ConfigError(
                f"prove.model is not chosen and the run has {len(mine)} generators; give model=<name>, which is trained"
            )
        model = mine[0]
    if model.served_by.is_service:
        raise ConfigError(
            f"prove.model.id={model.id} is served by an endpoint and cannot be trained here; give model=<checkpoint>"
        )
    if model.lora is not None:
        raise ConfigError(
            f"prove.model.lora={model.lora}: an adapter on an adapter cannot be served; merge it into its model first"
        )
    return replace(model, adapters={})


def _find_own(made: Config, own: Sequence[str]) -> str | None:
    """Return the scorer by which the data was paired, the judge or the first one where several had a part."""
    weights = [name for name in resolve_weights(made.pairs, list_scorers(made)) if name in own]
    if JUDGE in weights:
        return JUDGE
    return next(iter([*weights, *own]), None)


def describe_settings(settings: ProofSettings) -> dict[str, Any]:
    """Return what `proof.json` says of how it was made."""
    prove = settings.prove
    return {
        "model": name_public(settings.model),
        "revision": settings.model.revision,
        "method": prove.train.value,
        "steps": prove.steps,
        "lora": prove.lora,
        "served": "adapters" if settings.adapters else "merged" if settings.merged else "weights",
        "dtype": prove.dtype,
        "args": prove.args,
        "seed": prove.seed,
        "control": prove.control.value,
        "holdout": settings.holdout,
        "answers_per_prompt": prove.answers,
        "sampling": asdict(settings.sampling),
        "decides": settings.decides,
        "had_no_part": list(settings.others),
    }


def is_rate(config: Config, scorer: str) -> bool:
    """Return whether a scorer's figure is the share that passes: of a verifier that passes or fails."""
    found = {**config.scorers, **config.prove.scorers}.get(scorer)
    return found is not None and found.type == "verifier" and not found.kind.startswith("python:")


def trains_pairs(method: ProveTrain) -> bool:
    """Return whether a method's rows are pairs."""
    return method is not ProveTrain.kto
