"""What may stand in a unit's table: what its stage declares, and what an older version had not written yet."""

from __future__ import annotations

import pyarrow as pa
import pytest

from synthgen.ledger.run_dir import CorruptUnitError
from synthgen.runtime.units import fit_schema

SCHEMA = pa.schema(
    [pa.field("prompt_id", pa.string(), nullable=False), pa.field("text", pa.string()), pa.field("score", pa.float64())]
)
ROWS = {"prompt_id": ["a", "b"], "text": ["x", None], "score": [1.0, 2.0]}


def make_table(*names: str) -> pa.Table:
    fields = [SCHEMA.field(name) for name in names]
    return pa.table({name: ROWS[name] for name in names}, schema=pa.schema(fields))


def test_table_of_the_stage_is_taken_as_it_is() -> None:
    table = make_table("prompt_id", "text", "score")
    assert fit_schema(table, SCHEMA, "stages/x-1", 0) is table


def test_columns_that_an_older_version_did_not_write_are_null() -> None:
    found = fit_schema(make_table("prompt_id", "text"), SCHEMA, "stages/x-1", 0)
    assert found.schema.names == SCHEMA.names
    assert found["score"].to_pylist() == [None, None]
    assert found["text"].to_pylist() == ROWS["text"]


@pytest.mark.parametrize(
    "table",
    [
        make_table("text", "score"),  # a column is absent that may not be null
        make_table("prompt_id", "text").append_column("other", pa.array([1, 2])),
        pa.table({"prompt_id": ["a"], "text": ["x"], "score": ["high"]}),  # another type
        pa.table({"prompt_id": ["a"], "text": [1]}),
    ],
)
def test_table_of_another_stage_is_refused(table: pa.Table) -> None:
    with pytest.raises(CorruptUnitError, match="holds another stage's table") as refused:
        fit_schema(table, SCHEMA, "stages/x-1", 3)
    assert (refused.value.unit, refused.value.wrong) == (3, True)
