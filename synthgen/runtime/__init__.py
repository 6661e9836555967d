"""The run: which task goes next, on which replica, and what happens when one dies.

Knows nothing of what stages do: it sees tasks and counts, never rows.
"""

PUBLIC = ("calibrate", "cluster", "goes_on", "judge_eval", "plan_ledger", "prepare", "preview", "run")
IMPORTS = (
    "config",
    "models",
    "planning",
    "engines",
    "prompts",
    "ledger",
    "stages",
    "export",
    "publish",
    "judge_eval",
    "flow",
    "observe",
)
