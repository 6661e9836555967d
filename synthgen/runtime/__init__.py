"""The run: which task goes next, on which replica, and what happens when one dies.

Knows nothing of what stages do. Scheduler, executor, pools and losses see tasks and counts, never rows; tables are the
matter of `unit_files`, `retries`, `reuse` and what stands beside them.
"""

PUBLIC = (
    "calibrate",
    "clean",
    "cluster",
    "fetch",
    "goes_on",
    "judge_eval",
    "plan_ledger",
    "prepare",
    "preview",
    "run",
    "session",
)
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
