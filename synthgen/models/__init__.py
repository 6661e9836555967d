"""What a checkpoint is: its architecture, its quantization format, its tensors; and the built-in tiny one.

Knows nothing of the cluster.
"""

PUBLIC = (
    "architecture",
    "cache",
    "checkpoint",
    "config_source",
    "dequantize",
    "fetch",
    "gguf",
    "inquiry",
    "layers",
    "locate",
    "packages",
    "quantization",
    "smollm2",
    "steps",
    "table",
    "tensors",
    "tiny",
)
IMPORTS = ("config",)
