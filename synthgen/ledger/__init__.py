"""The ledger: which (stage, unit) files exist, how they come into being, and who may write them."""
