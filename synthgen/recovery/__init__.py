"""What a quantized checkpoint has kept of its base, by lm-eval's benchmarks: what `jobs/recovery.py` runs."""

PUBLIC = ("job",)
IMPORTS = ("config", "models", "engines", "training", "quantize")
