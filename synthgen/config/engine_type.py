"""Kinds of engine: what everybody asks of the engine that serves a model, without importing it.

`ENGINES` is the registry; a package adds one by an entry point in the group `synthgen.engines` that names an
`EngineType`, a file of the user's by its path (`engine=./mine.py:MINE`). Nothing else in the code asks for an engine by
its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.config.registry import Registry

ENGINES = Registry(
    "synthgen.engines",
    {
        "vllm": "synthgen.engines.types:VLLM",
        "openai": "synthgen.engines.types:OPENAI",
        "echo": "synthgen.engines.types:ECHO",
        "code": "synthgen.engines.types:CODE",
        "pooling": "synthgen.engines.types:POOLING",
        "transformers": "synthgen.engines.types:TRANSFORMERS",
    },
)


@dataclass(frozen=True, slots=True)
class EngineType:
    """One kind of engine.

    Attributes:
        engine: its class (synthgen.engines.base.Engine), called with the model; as `module:class` it is imported on
            the machine where it serves.
        loads_checkpoint: it loads the model's checkpoint on this cluster, as vLLM does: the planner finds it GPUs, its
            files are fetched, and vLLM's rules are checked. False: it needs no GPU.
        without_vllm: it loads a checkpoint by other means: vLLM's rules and sizes are not asked for.
        is_service: the model is behind an address (`endpoint.*`): it takes nothing of this cluster, is asked before the
            run starts, is sent one request for each completion, and costs what its prices say.
        makes_text_up: there is no model: no licence, no time, and a card that says so.
        runs_code: it runs code on CPUs, one replica per node with a process per CPU: see synthgen.engines.code.
        classifies: it gives a text numbers and writes none: for scorers, never for a generator or a judge. Its
            completion's text is JSON of two lists, `labels` and `logits`; and of a third, `windows`, a list of logits
            for each window of a text that was read in several (`Request.windowed`).
        packages: distributions of which one must be installed; `doctor` looks for them.
        fingerprint: of a ModelConfig, what else of it changes its output, beside what is the same for all engines.
    """

    engine: str | Callable[[Any], Any]
    loads_checkpoint: bool = False
    without_vllm: bool = False
    is_service: bool = False
    makes_text_up: bool = False
    runs_code: bool = False
    classifies: bool = False
    packages: tuple[str, ...] = ()
    fingerprint: Callable[[Any], Mapping[str, Any]] | None = None
