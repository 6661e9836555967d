"""Training on a finished data set with TRL."""

PUBLIC: tuple[str, ...] = ()
IMPORTS = ("config", "models", "ledger", "export")
