"""Preference datasets from open models on your own GPUs."""

__version__ = "0.1.0"
DISTRIBUTION = "synthgen-preference"
"""What pip calls this project. Never its import name: on PyPI that is another project's package."""
