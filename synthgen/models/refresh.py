"""`python -m synthgen.models.refresh NAME [--id org/name] [--to conf/model]`: an entry from a Hub repository's files.

Written are `NAME.yaml`, `architecture/NAME.yaml` (the numbers of config.json), `tensors/NAME.txt` (its safetensors
headers) and, for a quantized checkpoint, `quantization/NAME.yaml`. Licence, gate and commit are the Hub's. Nothing is
guessed: what the Hub does not say stays `unknown` and is named in `unchecked`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthgen.config import ModelConfig
from synthgen.config.resources import project_path
from synthgen.errors import SynthgenError, first_line
from synthgen.models.architecture import read_architecture
from synthgen.models.config_file import read_text
from synthgen.models.config_source import find_config, find_quantization
from synthgen.models.headers import fetch_table, read_directory
from synthgen.models.table import Table, format_table

KEPT = frozenset(
    {
        "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "v_head_dim", "intermediate_size", "vocab_size", "max_position_embeddings", "tie_word_embeddings",
        "torch_dtype", "dtype", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
        "routed_expert_hidden_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "n_shared_experts", "shared_intermediate_size", "first_k_dense_replace", "moe_layer_freq",
        "decoder_sparse_step", "interleave_moe_layer_step", "moe_latent_size", "kv_lora_rank", "q_lora_rank",
        "qk_nope_head_dim", "qk_rope_head_dim", "index_head_dim", "indexer_types", "layer_types", "layers_block_type",
        "hybrid_override_pattern", "hybrid_layer_pattern", "full_attention_interval", "attention_bias",
        "sliding_window", "sliding_window_pattern", "use_sliding_window", "attention_chunk_size", "no_rope_layers",
        "linear_num_value_heads", "linear_num_key_heads", "linear_key_head_dim", "linear_value_head_dim",
        "linear_conv_kernel_dim", "mamba_ssm_dtype", "mamba_ssm_cache_dtype", "mamba_num_heads", "mamba_head_dim",
        "ssm_state_size", "n_groups", "conv_kernel", "mamba_n_heads", "mamba_d_head", "mamba_d_state",
        "mamba_n_groups", "mamba_d_conv", "mamba_d_ssm", "mamba_expand", "expand", "attn_layer_period",
        "attn_layer_offset", "expert_layer_period", "expert_layer_offset", "global_head_dim",
        "num_global_key_value_heads", "num_kv_shared_layers", "swa_num_key_value_heads", "swa_head_dim",
        "swa_v_head_dim", "compress_ratios", "expert_dtype", "linear_attn_config", "layer_group_size",
        "short_conv_kernel_size", "sparse_attention_config", "rope_scaling", "rope_parameters", "block_configs",
    }
)  # fmt: skip
"""The numbers of a config.json that the planner reads."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the entry that the command line names, and print its files."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.models.refresh", description=__doc__)
    parser.add_argument("name", help="name of the entry, such as qwen3.6-35b-a3b")
    parser.add_argument("--id", help="Hub id or directory; default: that of the entry, if there is one")
    parser.add_argument("--revision", help="commit, tag or branch")
    parser.add_argument("--to", type=Path, default=project_path("conf") / "model", help="the catalog's directory")
    given = parser.parse_args(arguments)
    model_id = given.id or _read_id(given.to / f"{given.name}.yaml")
    if not model_id:
        parser.error(f"there is no entry {given.name} in {given.to} yet; give --id org/name")
    try:
        for path in write_entry(given.name, model_id, given.to, revision=given.revision):
            print(path)
    except SynthgenError as error:
        print(f"synthgen: {error}", file=sys.stderr)
        return 2
    return 0


def write_entry(name: str, model_id: str, directory: Path, *, revision: str | None = None) -> list[Path]:
    """Write the files of the entry `name`, and return them.

    Raises:
        ConfigError: the repository cannot be reached, or its config.json cannot be used.
    """
    model = ModelConfig(name=name, id=model_id, revision=revision)
    found = find_config(model)
    text = read_text(found.config)
    quantization = next(iter(find_quantization(found.config, text)), None)
    numbers = {key: value for key, value in text.items() if key in KEPT and value is not None}
    arch = read_architecture({**numbers, **({"quantization_config": quantization} if quantization else {})})
    facts = _ask_hub(found.repo, revision) if found.repo else {}
    table = _find_table(
        found.directory, found.repo, revision, str(facts.get("commit", "")), arch.num_layers, quantization
    )
    written = []
    if table is not None:
        numbers["tensors"] = name
        head = f"# {model_id}: its safetensors headers"
        written.append(_write(directory / "tensors" / f"{name}.txt", "\n".join([head, *format_table(table)]) + "\n"))
    written.append(
        _write(directory / "architecture" / f"{name}.yaml", f"# {model_id}, config.json\n{_to_yaml(numbers)}")
    )
    choices = [f"architecture: {name}"]
    if quantization is not None:
        path = directory / "quantization" / f"{name}.yaml"
        written.append(_write(path, f"# {model_id}, quantization_config\n{_to_yaml(quantization)}"))
        choices.append(f"quantization@architecture.quantization_config: {name}")
    doubts = [word for word, known in (("licence", facts.get("license")), ("tensors", table)) if not known]
    entry: dict[str, Any] = {"name": name, "id": model_id, "license": facts.get("license") or "unknown"}
    entry |= {"gated": True} if facts.get("gated") else {}
    entry |= {"unchecked": ", ".join(doubts)} if doubts else {}
    lines = [f"# {model_id}: {arch.quantization.label}.", "defaults:", *(f"  - {choice}" for choice in choices), ""]
    written.append(_write(directory / f"{name}.yaml", "\n".join(lines) + f"\n{_to_yaml(entry)}"))
    return written


def _find_table(
    directory: Path | None, repo: str, revision: str | None, commit: str, layers: int, quantization: Any
) -> Table | None:
    quantized = quantization is not None
    table = read_directory(directory, layers, quantized=quantized) if directory is not None else None
    if table is None and repo:
        table = fetch_table(repo, revision, commit, layers, quantized=quantized)
    return table


def _ask_hub(repo: str, revision: str | None) -> dict[str, Any]:
    """Return licence, gate and commit as the Hub says them; what it does not say is left out."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(repo, revision=revision)
    except Exception as error:  # the files are enough for an entry
        print(f"synthgen: {repo}: the Hub says nothing of its licence ({first_line(error)})", file=sys.stderr)
        return {}
    card = info.card_data
    return {"license": card.get("license") if card is not None else None, "gated": info.gated, "commit": info.sha}


def _read_id(path: Path) -> str:
    if not path.is_file():
        return ""
    ids = [
        line.partition(":")[2].strip().strip('"') for line in path.read_text().splitlines() if line.startswith("id:")
    ]
    return ids[0] if ids else ""


def _to_yaml(values: Mapping[str, Any]) -> str:
    """Return `values` as YAML: a line each, nested ones as JSON, which is YAML too."""
    return "".join(f"{key}: {_to_text(value)}\n" for key, value in values.items())


def _to_text(value: Any) -> str:
    """Return a plain word as it is, anything else as JSON."""
    plain = (
        isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value) and value not in ("true", "false", "null")
    )
    return str(value) if plain else json.dumps(value)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
