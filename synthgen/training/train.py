"""Training on a run's data set with TRL: what `jobs/train_dpo.py`, `train_kto.py` and `train_sft.py` run.

In: a run directory, a data set directory or a Hub id, and a model. Out: the trained model (or LoRA adapter) with its
tokenizer, metrics and configuration in `output_dir`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import MISSING, OmegaConf

from synthgen.config.compose import compose_job
from synthgen.errors import ConfigError, MissingExtraError, SynthgenError
from synthgen.export.manifest import Manifest, check_files, hash_files, read_manifest
from synthgen.ledger.storage import LocalStorage
from synthgen.training.checkpoints import find_checkpoint
from synthgen.training.merge import DEQUANTIZED
from synthgen.training.progress import make_callback

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)

METHODS = {
    "dpo": ("DPOConfig", "DPOTrainer"),
    "kto": ("KTOConfig", "KTOTrainer"),
    "sft": ("SFTConfig", "SFTTrainer"),
}
"""Names in TRL of each method's configuration and trainer."""


@dataclass
class LoraSettings:
    """Low-rank adapters (arXiv 2106.09685) instead of all weights."""

    enabled: bool = False
    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: str = "all-linear"


@dataclass
class TrainConfig:
    """What a training job reads (`conf/train/<method>.yaml`)."""

    data: str = MISSING  # run directory, data set directory, or Hub data set id
    data_config: str = "default"  # config of the data set
    data_revision: str | None = None  # Hub: commit, tag or branch
    train_split: str = "train"
    eval_split: str = "test"  # evaluated at the end, where the data set has it
    model: str = MISSING  # Hub id, local directory, or `builtin:tiny`
    model_revision: str | None = None
    dtype: str = "float32"  # of the weights; bfloat16 halves their memory (enough for LoRA, too coarse for small steps)
    output_dir: str = MISSING
    lora: LoraSettings = field(default_factory=LoraSettings)
    args: dict[str, Any] = field(default_factory=dict)  # any field of TRL's DPOConfig, KTOConfig or SFTConfig


def main(method: str, argv: Sequence[str] | None = None) -> int:
    """Run a training job on Hydra overrides, and return its exit status: 0, or 2 for what cannot work."""
    overrides = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        config = compose_train_config(method, overrides)
        metrics = train(method, config)
    except SynthgenError as error:
        print(f"train_{method}: {error}", file=sys.stderr)
        return error.exit_code
    logger.info("the model is in %s; %s", config.output_dir, metrics)
    return 0


def compose_train_config(method: str, overrides: Sequence[str]) -> TrainConfig:
    """Return `conf/train/<method>.yaml` with Hydra overrides. Raises ConfigError for what is misspelt or missing."""
    return compose_job("train", method, TrainConfig, overrides)


def train(method: str, config: TrainConfig) -> dict[str, float]:
    """Train as `config` says, and return the metrics (TRL's names; of the evaluation with the prefix `eval_`)."""
    try:
        import trl
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError("trl", "train") from error
    config_name, trainer_name = METHODS[method]
    data = load_data(config)
    args = _make_args(getattr(trl, config_name), config)
    args.model_init_kwargs = {"dtype": config.dtype, **(args.model_init_kwargs or {})}
    with PartialState().main_process_first():
        model = _prepare_model(config)
        if method == "sft":
            data = choose_best(data)
    trainer = getattr(trl, trainer_name)(
        model=model,
        args=args,
        train_dataset=data[config.train_split],
        eval_dataset=data.get(config.eval_split),
        peft_config=_make_lora(config.lora),
        callbacks=[make_callback(config.output_dir, quiet=False)],
    )
    metrics: dict[str, float] = trainer.train(resume_from_checkpoint=_find_resume(args, config)).metrics
    if config.eval_split in data:
        metrics |= trainer.evaluate()
    trainer.save_model(config.output_dir)
    trainer.save_state()
    trainer.save_metrics("all", metrics)
    if trainer.is_world_process_zero():
        _name_base(Path(config.output_dir), config.model)
        OmegaConf.save(OmegaConf.structured(config), Path(config.output_dir) / "train.yaml")
    return metrics


def choose_best(data: DatasetDict) -> DatasetDict:
    """Return the best completion of each prompt for SFT (best of n): of pairs the chosen side, once per prompt."""
    if "chosen" not in next(iter(data.values())).column_names:
        return data  # rows of `messages`, or of prompt and completion
    best = data.filter(lambda index: index == 0, input_columns="pair_index") if _has(data, "pair_index") else data
    return best.select_columns(["prompt", "chosen"]).rename_column("chosen", "completion")


def _has(data: DatasetDict, column: str) -> bool:
    return all(column in split.column_names for split in data.values())


def _find_resume(args: Any, config: TrainConfig) -> str | None:
    """Return the checkpoint to go on from: with `args.resume_from_checkpoint=true` the last whole one, None without."""
    asked = args.resume_from_checkpoint
    if asked is True or str(asked).lower() == "true":
        found = find_checkpoint(config.output_dir)
        return None if found is None else str(found)
    return asked or None


def _name_base(output_dir: Path, model: str) -> None:
    """Let an adapter name the model that it was made for, where that was dequantized into this directory."""
    path = output_dir / "adapter_config.json"
    if path.is_file():
        adapter = json.loads(path.read_text(encoding="utf-8"))
        if str(adapter.get("base_model_name_or_path", "")).endswith(DEQUANTIZED):
            adapter["base_model_name_or_path"] = model
            path.write_text(json.dumps(adapter, indent=2) + "\n", encoding="utf-8")


def load_data(config: TrainConfig) -> DatasetDict:
    """Return the data set with its splits, each with at least one row.

    Raises:
        ConfigError: there is no such data set, or it has no row to train on.
    """
    path = Path(config.data)
    local = next((place for place in (path / "dataset", path) if (place / "README.md").is_file()), None)
    if local is None and path.exists():
        raise ConfigError(f"data={config.data} holds no data set; finish the run with `synthgen run` first")
    if local is None:
        data = _load(config, None)
    else:
        manifest = _check_whole(local)
        data = _load(config, local)
        while (now := _read_manifest(local)) != manifest:  # it was exported again while it was read
            manifest, data = now, _load(config, local)
    if config.train_split not in data:
        raise ConfigError(f"train_split={config.train_split} is no split of {config.data}; it has {', '.join(data)}")
    return data


def _check_whole(directory: Path) -> Manifest | None:
    """Return the manifest of a local data set whose files fit it, None where it has none (a copy, a download).

    Raises:
        ConfigError: a file of it is missing or changed.
    """
    while (manifest := _read_manifest(directory)) is not None:
        found = hash_files(directory)
        if _read_manifest(directory) == manifest:
            check_files(str(directory), manifest, found)
            break
    return manifest


def _read_manifest(directory: Path) -> Manifest | None:
    return read_manifest(LocalStorage(directory), "")


def _load(config: TrainConfig, local: Path | None) -> DatasetDict:
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError

    try:
        builder = load_dataset_builder(str(local or config.data), config.data_config, revision=config.data_revision)
        known = (builder.info.splits or {}).get(config.train_split)
        if known is not None and not known.num_examples:
            raise ConfigError(f"data={config.data} (data_config={config.data_config}) has no row to train on")
        builder.download_and_prepare()
        return cast("DatasetDict", builder.as_dataset())
    except (DatasetsError, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"data={config.data} (data_config={config.data_config}) cannot be loaded: {reason}"
        ) from error


def _make_args(kind: type[Any], config: TrainConfig) -> Any:
    """TRL's arguments. Raises ConfigError for names that TRL does not have, and for values that it refuses."""
    import torch

    known = [item.name for item in dataclasses.fields(kind)]
    for name in config.args:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(f'args.{other}' for other in near)}?" if near else ""
            raise ConfigError(f"args.{name} is not a field of TRL's {kind.__name__}{hint}")
    try:
        return kind(**{"output_dir": config.output_dir, "use_cpu": not torch.accelerator.is_available(), **config.args})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"args: {error}") from error


def _prepare_model(config: TrainConfig) -> str:
    """The directory or Hub id of a model that can be trained; quantized weights are dequantized into `output_dir`."""
    from huggingface_hub import snapshot_download

    from synthgen.models.dequantize import dequantize_checkpoint, is_compressed
    from synthgen.models.locate import BUILTIN_IDS, ensure_builtin

    model = config.model
    if model in BUILTIN_IDS:
        model = str(ensure_builtin(model))
    elif config.model_revision is not None:
        model = snapshot_download(model, revision=config.model_revision)
    try:
        compressed = is_compressed(model)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"model={config.model} cannot be loaded: {reason}") from error
    target = Path(config.output_dir) / DEQUANTIZED
    if compressed and not (target / "tokenizer.json").is_file():
        dequantize_checkpoint(model, target)
    return str(target) if compressed else model


def _make_lora(settings: LoraSettings) -> Any:
    if not settings.enabled:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        task_type="CAUSAL_LM",
    )
