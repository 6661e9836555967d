"""The notebook of the docs runs, and shows what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


@pytest.mark.slow
def test_notebook_shows_what_it_makes(tmp_path: Path) -> None:
    stored = nbformat.read(NOTEBOOK, 4)
    fresh = nbformat.read(NOTEBOOK, 4)
    NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    compared = 0
    for before, after in zip(stored.cells, fresh.cells, strict=True):
        if before.cell_type == "code" and "synthgen.plan(" not in before.source:  # a plan names the machine
            assert shown(before) == shown(after)
            compared += bool(shown(before))
    assert compared >= 5


def shown(cell: Any) -> list[str]:
    """Return what a cell printed and gave back."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [text for output, text in zip(cell.outputs, texts, strict=True) if output.get("name") != "stderr"]
