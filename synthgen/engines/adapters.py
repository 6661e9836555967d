"""A LoRA adapter's files: what vLLM would refuse of them is known before the model is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.templates import find_in_cache
from synthgen.errors import ConfigError
from synthgen.models.locate import find_builtin

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
UNSUPPORTED = ("use_dora", "lora_bias", "alora_invocation_tokens", "layer_replication", "use_bdlora", "use_qalora")
"""Settings of PEFT that vLLM refuses where they are set."""


def list_adapters(model: ModelConfig) -> dict[str, str]:
    """Return the Hub id or directory of each adapter by the end of its key: `lora`, `adapters.<name>`."""
    own = {} if model.lora is None else {"lora": model.lora}
    return own | {f"adapters.{name}": adapter for name, adapter in model.adapters.items()}


def check_adapters(model: ModelConfig) -> list[str]:
    """Return doubts about the adapters, a line each.

    A directory is looked at whole; of a Hub adapter what the Hub's cache holds.

    Raises:
        ConfigError: one of them cannot be loaded, whatever the machine.
    """
    doubts = [check_adapter(replace(model, lora=adapter)) for adapter in list_adapters(model).values()]
    return [doubt for doubt in doubts if doubt is not None]


def check_adapter(model: ModelConfig) -> str | None:
    """Return a doubt about `model.lora` in one line, None where there is none or nothing can be said.

    Raises:
        ConfigError: the adapter cannot be loaded, whatever the machine.
    """
    adapter = model.lora
    if adapter is None:
        return None
    directory = Path(adapter).expanduser()
    if not directory.is_dir():
        if adapter.startswith(("/", "./", "../", "~")) or adapter.count("/") != 1:
            raise ConfigError(
                f"model.lora={adapter} is neither a directory nor a Hub id (org/name); "
                "give the directory that holds adapter_config.json"
            )
        path = find_in_cache(adapter, "adapter_config.json", None)
        return None if path is None else _check_config(model, path)
    path = directory / "adapter_config.json"
    if not path.is_file():
        raise ConfigError(f"model.lora={adapter} holds no adapter_config.json; give the directory of a PEFT adapter")
    weights = next((directory / name for name in WEIGHTS if (directory / name).is_file()), None)
    if weights is None:
        raise ConfigError(f"model.lora={adapter} holds no weights ({' or '.join(WEIGHTS[:2])}); copy them there")
    doubt = _check_config(model, path)
    if weights.suffix == ".safetensors":
        _check_weights(adapter, weights)
    return doubt


def fit_rank(adapter: str, rank: int) -> int:
    """Return an adapter's rank, rounded up to what vLLM takes. Raises ConfigError where it takes none so high."""
    fitting = [size for size in LORA_RANKS if size >= rank]
    if not fitting:
        raise ConfigError(f"model.lora={adapter} has rank {rank}; vLLM takes up to {LORA_RANKS[-1]}")
    return fitting[0]


def read_adapter_config(adapter: str, path: Path) -> dict[str, Any]:
    """Return the adapter's configuration; it has a rank. Raises ConfigError for a file that is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        rank = config["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"model.lora={adapter}: adapter_config.json is not that of a LoRA adapter "
            f"({type(error).__name__}: {error}); take one that PEFT has saved"
        ) from error
    if not isinstance(rank, int) or rank < 1:
        raise ConfigError(f"model.lora={adapter}: adapter_config.json has r={rank!r}; a rank is a whole number above 0")
    return dict(config)


def _check_config(model: ModelConfig, path: Path) -> str | None:
    adapter = str(model.lora)
    config = read_adapter_config(adapter, path)
    fit_rank(adapter, config["r"])
    refused = [name for name in UNSUPPORTED if config.get(name)]
    if config.get("peft_type", "LORA") != "LORA":
        refused.append(f"peft_type={config['peft_type']}")
    if refused:
        raise ConfigError(
            f"model.lora={adapter}: vLLM does not serve adapters with {', '.join(refused)}; merge it into its model"
        )
    base = config.get("base_model_name_or_path")
    built_in = find_builtin(model.id) if model.id.startswith("builtin:") else None
    if base and _last_name(base) not in (_last_name(model.id), _last_name(str(built_in or model.id))):
        return f"model.lora={adapter} was made for {base}, and model.id is {model.id}"
    return None


def _check_weights(adapter: str, path: Path) -> None:
    """Raise ConfigError for a safetensors file whose header is torn or holds no LoRA tensor."""
    try:
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header: dict[str, Any] = json.loads(handle.read(min(length, path.stat().st_size)))
        names = [name for name in header if "lora_" in name]
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        whole = path.stat().st_size == 8 + length + end
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        names, whole = [], False
    if not whole or not names:
        why = "is not a whole safetensors file" if not whole else "holds no LoRA tensor"
        raise ConfigError(f"model.lora={adapter}: {path.name} {why}; copy the adapter anew")


def _last_name(model_id: str) -> str:
    return model_id.rstrip("/").rpartition("/")[2].lower()
