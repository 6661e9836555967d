"""How a checkpoint stores its weights: bytes per linear layer, by format. `quantization_readers.py` reads the config.

Sizes follow what vLLM 0.32 keeps in memory (`vllm/model_executor/layers/quantization/`): packed weights, scales and
zero points. Embeddings, norms and, unless a format names it, the output head keep the checkpoint's own data type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthgen.models.patterns import matches_any

Compute = Literal["bf16", "fp8", "int8", "fp4"]
"""The number format that the matrix units work in."""

_KINDS = {"fp8": "FP8", "int8": "INT8 W8A8", "fp4": "NVFP4"}


@dataclass(frozen=True, slots=True)
class Quantization:
    """The storage format of the linear layers.

    Attributes:
        method: as `config.json` names it; empty means not quantized.
        weight_bits: bits per weight (an average where the format mixes them).
        group_size: inputs that share a scale, per output; None: all of them; 0: one scale for the whole tensor.
        block: (outputs, inputs) of a tile that shares one scale, in place of `group_size`.
        scale_bytes: bytes per scale. zero_bits: bits per zero point, one for each scale.
        compute: what the matrix multiplications run in, where the GPU has it.
        ignore: names, prefixes or patterns of the layers that the format leaves alone (`patterns.py`).
        experts_only: only the experts of a mixture are quantized. everything: the embeddings and the head are too.
        kv_cache_bits: of the KV cache that the checkpoint asks for; None: the model's data type.
        kind: its name for people, such as NVFP4; empty: by bits and compute.
        others: (names, format) of layers that have another format; the first that means a layer goes.
        named_only: only the layers of `others` are quantized.
        note: what is not known of it, one sentence; empty: nothing.
    """

    method: str = ""
    weight_bits: float = 16.0
    group_size: int | None = None
    block: tuple[int, int] | None = None
    scale_bytes: float = 0.0
    zero_bits: float = 0.0
    compute: Compute = "bf16"
    ignore: tuple[str, ...] = ()
    experts_only: bool = False
    everything: bool = False
    kv_cache_bits: int | None = None
    kind: str = ""
    others: tuple[tuple[tuple[str, ...], Quantization], ...] = ()
    named_only: bool = False
    note: str = ""

    @property
    def label(self) -> str:
        """The format for people, such as `INT8 W8A8 (compressed-tensors)`."""
        if not self.method:
            return "not quantized"
        if self.method in ("mxfp4", "gguf"):
            return {"mxfp4": "MXFP4", "gguf": f"GGUF {self.weight_bits:g} bits"}[self.method]
        kind = self.kind or _KINDS.get(self.compute) or f"INT{self.weight_bits:g}"
        return f"{'NF4' if self.method == 'bitsandbytes' and self.weight_bits == 4 else kind} ({self.method})"

    @property
    def on_cpu(self) -> bool:
        """Whether vLLM's CPU build serves it: not quantized, or integers (tried: INT8 W8A8, AWQ and GPTQ INT4)."""
        integers = self.method.startswith(("awq", "gptq", "auto_", "compressed-tensors")) and self.compute != "fp8"
        return not self.method or (integers and not self.kind.endswith("FP4"))

    def pick(self, name: str) -> Quantization | None:
        """Return the format of the linear layer of this name (`model.layers.0.mlp.up_proj`), None: not quantized."""
        if self.everything:
            return self
        if not self.method or matches_any(self.ignore, name):
            return None
        for names, other in self.others:
            if matches_any(names, name):
                return other
        left_out = self.named_only or name.endswith("lm_head") or (self.experts_only and ".experts" not in name)
        return None if left_out else self

    def covers(self, name: str) -> bool:
        """Whether the linear layer of this name is quantized."""
        return self.pick(name) is not None

    def linear_bytes(self, outputs: int, inputs: int) -> float:
        """Return the bytes of one quantized weight matrix with its scales and zero points."""
        if self.block:
            scales = -(-outputs // self.block[0]) * -(-inputs // self.block[1])
        elif self.group_size == 0:
            scales = 1
        else:
            scales = outputs * (-(-inputs // self.group_size) if self.group_size else 1)
        return outputs * inputs * self.weight_bits / 8 + scales * (self.scale_bytes + self.zero_bits / 8)

    def tile(self) -> int:
        """Return what a shard's inputs must be a multiple of, so that no scale spans two GPUs."""
        return self.block[1] if self.block else (self.group_size or 1)


NOT_QUANTIZED = Quantization()
