"""Tables as the bytes of files. The same tables give the same bytes (with the same version of pyarrow)."""

from __future__ import annotations

import json
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.export.calls import decode_json
from synthgen.export.features import describe_features

# What `datasets` 5.2 writes for `push_to_hub` (its config.DEFAULT_CDC_OPTIONS and MAX_ROW_GROUP_SIZE). Chunk borders
# that follow the content let the Hub store rows once that an earlier version of the data set had already.
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
ROW_GROUP_BYTES = 100_000_000


class ParquetFile:
    """A Parquet file that is written table by table, with the features that `datasets` reads from its schema.

    Args:
        sink: binary file; it stays open.
        schema: of every table.
    """

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        self._schema = _make_schema(schema)
        self._writer = pq.ParquetWriter(
            sink, self._schema, compression="snappy", use_content_defined_chunking=CHUNKING, write_page_index=True
        )

    def write(self, table: pa.Table) -> None:
        """Add rows, as a row group of their own (or several, where they take more than ROW_GROUP_BYTES)."""
        # An empty row group would break `datasets`, which takes the first one's length as its batch size.
        if table.num_rows:
            rows = max(1, table.num_rows * ROW_GROUP_BYTES // max(1, table.nbytes))
            self._writer.write_table(pa.Table.from_arrays(table.columns, schema=self._schema), row_group_size=rows)

    def close(self) -> None:
        """Write the footer."""
        self._writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
        self._writer.close()


class JsonLinesFile:
    """A file of JSON lines in UTF-8 that is written table by table. Arguments as for `ParquetFile`."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        self._sink = sink
        self._has_json = "arrow.json" in str(schema)

    def write(self, table: pa.Table) -> None:
        """Add rows, a line each."""
        whole = pa.struct(list(table.schema))
        for batch in table.to_batches(1024):
            rows = [decode_json(row, whole) for row in batch.to_pylist()] if self._has_json else batch.to_pylist()
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            self._sink.write("".join(lines).encode())

    def close(self) -> None:
        """Nothing is left to write."""


def _make_schema(schema: pa.Schema) -> pa.Schema:
    """Return `schema` with every column nullable, as `datasets` has it, and its features in the metadata."""
    features = {"info": {"features": describe_features(schema)}}
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return nullable.with_metadata({"huggingface": json.dumps(features)})
