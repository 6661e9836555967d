"""The ledger: which (stage, unit) files exist, how they come into being, and who may write them.

Knows nothing of stages and of Ray.
"""

PUBLIC = ("directories", "ingest", "journal", "lease", "manifest", "read_ahead", "run_dir", "sessions", "storage")
IMPORTS = ("config", "prompts")
