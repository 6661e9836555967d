"""The journal of a unit: samples that were paid for, kept while their unit is not committed yet.

For engines that bill per token. Each of its files is made whole by the one commit rule (`Storage.create`), under the
next free number; a task that begins again reads them all, and the unit's own file makes them superfluous.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from synthgen.ledger.run_dir import RunDir
from synthgen.records import Bill, ChoiceLogprobs, Completion, WrittenCall

Sample = tuple[str, int]
"""(what was asked, as a hash; index of the sample)."""


class Journal:
    """The journal of one unit of a stage."""

    def __init__(self, run_dir: RunDir, directory: str, unit: int) -> None:
        self._storage = run_dir.storage
        self._prefix = f"{directory}/journal/unit-{unit:06d}."
        self._folder = f"{directory}/journal"
        self._next = 0

    def read(self) -> dict[Sample, Completion]:
        """Return the samples of all whole files; a line that cannot be read is asked for again."""
        found: dict[Sample, Completion] = {}
        for path in self._list():
            try:
                lines = self._storage.read(path).decode("utf-8", "replace").splitlines()
            except FileNotFoundError:  # the unit was committed meanwhile
                continue
            for line in lines:
                found.update(_read_line(line))
            self._next += 1
        return found

    def write(self, samples: Mapping[Sample, Completion]) -> None:
        """Add samples; they survive this process from here on."""
        lines = [json.dumps([key, index, asdict(completion)]) for (key, index), completion in samples.items()]
        data = ("\n".join(lines) + "\n").encode()
        while not self._storage.create(f"{self._prefix}{self._next:04d}.jsonl", data):
            self._next += 1
        self._next += 1

    def delete(self) -> None:
        """Remove the files: the unit is committed."""
        for path in self._list():
            self._storage.delete(path)

    def _list(self) -> Sequence[str]:
        return [path for path in self._storage.list(self._folder) if path.startswith(self._prefix)]


def _read_line(line: str) -> dict[Sample, Completion]:
    try:
        key, index, fields = json.loads(line)
        return {(str(key), int(index)): _read_completion(fields)}
    except (ValueError, TypeError, KeyError):
        return {}


def _read_completion(fields: dict[str, Any]) -> Completion:
    places = tuple(ChoiceLogprobs(place["start"], place["logprobs"]) for place in fields.pop("choice_logprobs"))
    calls = tuple(WrittenCall(**call) for call in fields.pop("tool_calls", ()))
    return Completion(**{**fields, "bill": Bill(**fields["bill"])}, choice_logprobs=places, tool_calls=calls)
