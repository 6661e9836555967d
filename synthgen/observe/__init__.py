"""What people are told of a run: progress, status, metrics, the report and its page."""

PUBLIC = (
    "compare",
    "metrics",
    "progress",
    "report",
    "snapshot",
    "status",
    "steps",
    "summary",
    "view",
    "view.blocks",
    "view.samples",
)
IMPORTS = ("config", "models", "planning", "pairs", "ledger", "trust", "stages", "export", "publish", "flow")
