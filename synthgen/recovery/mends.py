"""What an evaluation failed of, in one line with its mend."""

from __future__ import annotations

import re
from collections.abc import Sequence

OFFLINE = (
    "ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "DatasetNotFoundError", "HfHubHTTPError",
    "DataFilesNotFoundError",
)  # fmt: skip
MEMORY = re.compile(r"out of memory|No available memory for the cache blocks|Cannot allocate memory|MemoryError", re.I)


def explain_task(kinds: Sequence[str], error: str) -> str:
    """Return why a task failed, and what helps.

    Args:
        kinds: the classes of the exception. error: what it said, in one line.
    """
    if "GatedRepo" in " ".join(kinds) or "gated dataset" in error:
        return f"{error}; accept its terms on the Hub and set HF_TOKEN, or leave the task out of tasks"
    if "code_eval" in error:
        return f"{error}; without the Hub put evaluate's metrics/code_eval into tasks_dir as code_eval/code_eval.py"
    if set(kinds) & set(OFFLINE) or "Couldn't reach" in error or "on the Hub" in error:
        return f"{error}; without the Hub give tasks of local files with tasks_dir"
    if error.startswith("'lm-eval has no task"):
        return f"{error.strip(chr(39))}; `lm-eval ls tasks` lists them, and files of your own go into tasks_dir"
    if "ModuleNotFoundError" in kinds:
        return f"{error}; install it beside the project"
    return explain_memory(error)


def explain_memory(error: str) -> str:
    """Return what was said, with what helps where that was memory."""
    if MEMORY.search(error):
        return f"{error}; take a smaller max_model_len, a larger tensor_parallel_size or +model_args.max_num_seqs=64"
    return error
