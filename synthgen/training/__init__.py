"""Training on a finished data set with TRL."""

PUBLIC = ("child", "parent", "progress", "train")
IMPORTS = ("config", "models", "ledger", "export", "observe")
