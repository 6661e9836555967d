"""From committed units to a data set on disk: see docs/dataset.md for its files and columns."""

from synthgen.export.blocks import Block, build_block, group_units, is_test
from synthgen.export.dataset import ExportResult, check_export, export_dataset
from synthgen.export.features import dataset_configs
from synthgen.export.files import ExportedFile
from synthgen.export.prefix import Prefix

__all__ = [
    "Block",
    "ExportResult",
    "ExportedFile",
    "Prefix",
    "build_block",
    "check_export",
    "dataset_configs",
    "export_dataset",
    "group_units",
    "is_test",
]

PUBLIC = ("calls", "dataset_info", "files", "finished", "kept", "manifest", "proofs", "swap", "task")
IMPORTS = ("config", "tasks", "pairs", "trust", "ledger")
