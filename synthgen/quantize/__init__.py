"""Quantizing a checkpoint by llm-compressor, in an environment of its own: what `jobs/quantize.py` runs."""

PUBLIC = ("job",)
IMPORTS = ("config", "models", "export", "prompts", "training")
