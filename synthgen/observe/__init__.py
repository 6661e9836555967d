"""What people are told of a run: progress, status, metrics, the report and its page."""

PUBLIC = ("metrics", "progress", "report", "snapshot", "status", "steps", "view", "view.samples")
IMPORTS = ("config", "models", "planning", "pairs", "ledger", "trust", "stages", "export", "publish", "flow")
