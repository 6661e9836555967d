"""A GGUF file's header: its metadata and its list of tensors, read from the front of the file. No weight is touched.

The layout is llama.cpp's (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The package `gguf` has a
reader too, which needs a local file and seconds for a large vocabulary; this one reads any stream, such as the Hub's.
Sizes of the block formats are that package's.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

from synthgen.errors import ConfigError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's value types by their numbers, as `struct` names them."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` in GGUF's order (inputs first), `kind` such as `Q4_1`, `size` in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: str
    size: int

    @property
    def elements(self) -> int:
        """Weights in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the front of a GGUF file says.

    Attributes:
        fields: metadata by key; arrays as lists.
        tensors: every tensor, in the file's order.
    """

    fields: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]

    @property
    def elements(self) -> int:
        """Weights in the file."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight over the whole file, scales included."""
        return 8 * sum(tensor.size for tensor in self.tensors) / max(1, self.elements)

    @property
    def kind(self) -> str:
        """The block format of most weights, such as `Q4_K`."""
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            weights[tensor.kind] += tensor.elements
        return weights.most_common(1)[0][0] if weights else ""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `<architecture>.<key>`."""
        return self.fields.get(f"{self.fields.get('general.architecture')}.{key}", default)


def read_header(stream: BinaryIO, source: str) -> GgufHeader:
    """Return the header at the beginning of `stream`.

    Args:
        source: names the file in errors.

    Raises:
        ConfigError: it is not a GGUF file, is of another version, or is cut off.
    """
    if stream.read(4) != MAGIC:
        raise ConfigError(f"{source} is not a GGUF file")
    try:
        [version] = _unpack("<I", stream)
        if version not in VERSIONS:
            raise ConfigError(f"{source} is GGUF version {version}; known: {', '.join(map(str, VERSIONS))}")
        tensors, entries = _unpack("<QQ", stream)
        fields = {}
        for _ in range(entries):
            key = _read_string(stream)
            fields[key] = _read_value(stream, _unpack("<I", stream)[0])
        return GgufHeader(fields, tuple(_read_tensor(stream, source) for _ in range(tensors)))
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ConfigError(f"{source} is cut off or damaged in its header; fetch it again") from error


@lru_cache(maxsize=1)
def block_formats() -> dict[int, tuple[str, int, int]]:
    """Return (name, weights per block, bytes per block) of every tensor type, by its number in the file."""
    from gguf.constants import GGML_QUANT_SIZES

    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


def _read_tensor(stream: BinaryIO, source: str) -> GgufTensor:
    name = _read_string(stream)
    [dimensions] = _unpack("<I", stream)
    shape = _unpack(f"<{dimensions}Q", stream)
    number, _ = _unpack("<IQ", stream)
    if number not in block_formats():
        raise ConfigError(f"{source}: {name} has the unknown tensor type {number}; a newer package gguf may know it")
    kind, weights, size = block_formats()[number]
    return GgufTensor(name, tuple(shape), kind, math.prod(shape) // weights * size)


def _read_value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _read_string(stream)
    if kind != _ARRAY:
        return _unpack(f"<{_SCALARS[kind]}", stream)[0]
    inner, length = _unpack("<IQ", stream)
    if inner in _SCALARS:
        return list(_unpack(f"<{length}{_SCALARS[inner]}", stream))
    return [_read_value(stream, inner) for _ in range(length)]


def _read_string(stream: BinaryIO) -> str:
    [length] = _unpack("<Q", stream)
    data = stream.read(length)
    if len(data) < length:
        raise struct.error("end of file")
    return data.decode("utf-8", "replace")


def _unpack(layout: str, stream: BinaryIO) -> tuple[Any, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))
