"""What a peer's process and the benchmark tell each other, as files: when a pass may begin, and when it began.

A peer loads once and then gets its prompts in passes, so that loading is outside of what is measured and contenders can
take turns. Its source of rows holds each pass back until the benchmark opens it. Every row carries the number of its
pass, as `pass`, from the source to the peer's own Parquet files, which end the pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

POLL_S = 0.01


def open_pass(directory: Path, number: int) -> None:
    """Let the rows of a pass go."""
    (directory / f"open-{number}").touch()


def wait_for_pass(directory: Path, number: int) -> None:
    """Return once the pass is open."""
    while not (directory / f"open-{number}").exists():
        time.sleep(POLL_S)


def note_call(directory: Path) -> None:
    """Note that the engine is called now."""
    with (directory / "calls").open("a", encoding="ascii") as file:
        file.write(f"{time.time()!r}\n")


@dataclass
class PassReader:
    """Reads what a pass has given so far, each file once: reading must not slow the peer.

    Attributes:
        directory: what the peer was given; its own files lie below `results`.
        number: of the pass.
        tokens_column: the column of a row's output tokens; dots lead into structs.
        known: files that need no more reading, those of earlier passes among them.
        rows: how many are there.
        output_tokens: of these rows.
        ended_at: when their last file was written, Unix time, s.
        opened_at: the pass begins with the first call of the engine after this, Unix time, s.
    """

    directory: Path
    number: int
    tokens_column: str
    known: set[Path]
    rows: int = 0
    output_tokens: int = 0
    ended_at: float = 0.0
    opened_at: float = field(default_factory=time.time)

    def read_new(self) -> None:
        """Add the files that have come since the last time."""
        for path in set((self.directory / "results").rglob("*.parquet")) - self.known:
            try:
                table = pq.read_table(path, columns=["pass", self.tokens_column])
            except pa.ArrowInvalid:  # it is being written
                continue
            self.known.add(path)
            mine = table.filter(pc.equal(table["pass"], self.number))
            if mine.num_rows:
                self.rows += mine.num_rows
                self.output_tokens += pc.sum(mine.column(1)).as_py()
                self.ended_at = max(self.ended_at, path.stat().st_mtime)

    def find_elapsed_s(self) -> float:
        """Return the time from the first call of the engine to the last file, s."""
        calls = [float(line) for line in (self.directory / "calls").read_text(encoding="ascii").split()]
        return self.ended_at - min(call for call in calls if call >= self.opened_at)
