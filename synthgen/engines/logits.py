"""What a classifier answers: its logits as the text of a completion, and the windows of a text that is too long for it.

The text is JSON: `labels` and `logits`, a number per output of the model, as its `config.json` orders them, before any
softmax or sigmoid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from synthgen.records import Request


def list_windows(request: Request) -> list[Request]:
    """Return a request for each window of a request; itself where all of it fits the model's context."""
    return [
        replace(request, request_id=f"{request.request_id}~{index}", prompt_token_ids=list(window), windows=())
        for index, window in enumerate(request.windows)
    ] or [request]


def write_logits(labels: Sequence[str], windows: Sequence[Sequence[float]]) -> str:
    """Return the text of a completion: JSON of `labels` and `logits`, and of `windows` where there are several.

    Args:
        labels: as the checkpoint's configuration has them; others are made up where they are not as many as outputs.
        windows: the logits of each window, in order.
    """
    outputs = len(windows[0])
    names = list(labels) if len(labels) == outputs else [f"LABEL_{index}" for index in range(outputs)]
    answer = {"labels": names, "logits": windows[0]}
    return json.dumps(answer if len(windows) == 1 else {**answer, "windows": windows})


def read_labels(names: Mapping[int, str] | None) -> tuple[str, ...]:
    """Return the labels of a configuration's `id2label`, by their numbers."""
    return tuple(str((names or {})[index]) for index in sorted(names or {}))
