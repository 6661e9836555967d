"""A data set on its way out: its card, the licences of its models, the Hub, directories and object stores."""

PUBLIC = ("card", "card_proofs", "card_tables", "card_task", "dataset", "figures", "licences", "markup")
IMPORTS = ("config", "pairs", "ledger", "trust", "export")
