"""Whole runs whose generator is an endpoint, on Ray: what they cost, when they stop, and what a kill costs again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen.config.compose import compose_config
from synthgen.ledger.run_dir import RunDir
from synthgen.observe.status import read_status
from synthgen.runtime.run import run
from tests.command_line import Started, wait_for_end
from tests.inline_runs import run_inline
from tests.scripted_endpoint import Endpoint, Reply, answer, serve
from tests.small_runs import write_prompts

PROMPTS, SAMPLES, AT_ONCE = 24, 2, 4
IN_USD, OUT_USD = 3.0, 11.0
"""Dollars per million tokens. An answer has 7 tokens in and 3 out."""
ANSWER_USD = (7 * IN_USD + 3 * OUT_USD) / 1e6


@contextlib.contextmanager
def served(delay_s: float = 0.0) -> Iterator[Endpoint]:
    """Serve an endpoint in a thread of its own while the block runs; each answer is another text."""

    def script(number: int, body: dict[str, Any]) -> Reply:
        return answer(f"{body['messages'][-1]['content']} {body.get('seed')} {'word ' * (1 + number % 7)}")

    ready, endpoint, loop = threading.Event(), Endpoint(script, delay_s=delay_s), asyncio.new_event_loop()
    end = asyncio.Event()

    async def hold() -> None:
        async with serve(endpoint):
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(hold()))
    thread.start()
    try:
        assert ready.wait(30)
        yield endpoint
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


def overrides_of(directory: Path, endpoint: Endpoint) -> list[str]:
    prompts = directory / "prompts.jsonl"
    if not prompts.exists():
        write_prompts(prompts, PROMPTS)
    model = "generators.main.model"
    return [
        "experiment=echo",
        f"model@{model}=openai_endpoint",
        f"{model}.id=m",
        f"{model}.endpoint.base_url={endpoint.url}",
        f"{model}.endpoint.max_concurrency={AT_ONCE}",
        f"{model}.endpoint.usd_per_million_input_tokens={IN_USD}",
        f"{model}.endpoint.usd_per_million_output_tokens={OUT_USD}",
        f"generators.main.n={SAMPLES}",
        "judge.canary_fraction=0",
        f"prompts.path={prompts}",
        f"run.dir={directory / 'run'}",
        "run.unit_size=12",
        "cluster.num_cpus=1",
    ]


def count_kept(run_dir: Path) -> int:
    """Return how many samples are in committed units, or in the journals of the others."""
    units = {path.stem for path in run_dir.glob("stages/generate-main-*/unit-*.parquet")}
    journals = run_dir.glob("stages/generate-main-*/journal/*.jsonl")
    open_journals = [path for path in journals if path.name.split(".")[0] not in units]
    committed = sum(pq.read_metadata(path).num_rows for path in run_dir.glob("stages/generate-main-*/unit-*.parquet"))
    return committed + sum(len(path.read_text().splitlines()) for path in open_journals)


def test_dollars_are_the_same_in_report_card_and_status_and_a_budget_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with served(delay_s=0.25) as endpoint:  # three seconds in all: money is counted once a second
        overrides = overrides_of(tmp_path, endpoint)
        limit = 6 * ANSWER_USD
        with pytest.raises(Exception, match=r"run.max_usd=.* is spent") as stopped:
            run(compose_config([*overrides, f"run.max_usd={limit:.6f}", "run.grace_s=0"]), quiet=True)
        assert type(stopped.value).__name__ == "RunStoppedError"
        assert read_status(RunDir(str(tmp_path / "run")))["state"] == "stopped"
        paid, kept = len(endpoint.bodies), count_kept(tmp_path / "run")
        endpoint.delay_s = 0.0
        report = run_inline(overrides)
        again = len(endpoint.bodies) - paid
    usd = report["stages"]["generate-main"]["usd"]
    assert usd == pytest.approx(PROMPTS * SAMPLES * ANSWER_USD, abs=1e-4), "what an earlier session paid counts once"
    assert 0 < kept < PROMPTS * SAMPLES
    assert again == PROMPTS * SAMPLES - kept, "what was written down before the stop is not paid again"
    card = (tmp_path / "run/dataset/README.md").read_text()
    (row,) = [line for line in card.splitlines() if "dollars for tokens" in line]
    assert f"{usd:g}" in row


def test_kill_in_the_middle_of_a_unit_costs_what_was_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with served(delay_s=0.3) as endpoint:
        overrides = [*overrides_of(tmp_path, endpoint), "run.unit_size=24"]
        run_dir = tmp_path / "run"
        with Started(["run", *overrides], tmp_path / "log") as started:
            journal = "stages/generate-main-*/journal/*.jsonl"
            started.wait_for(lambda: bool(list(run_dir.glob(journal))), "a journal of what was paid")
            endpoint.delay_s = 600.0
            replicas = started.descendants("Replica")
            started.kill()
            assert wait_for_end(replicas) == []  # until then they ask, and write down what they have
            kept = sum(len(path.read_text().splitlines()) for path in run_dir.glob(journal))
            paid = len(endpoint.bodies)
        assert kept > 0
        assert not list(run_dir.glob("stages/generate-main-*/unit-*.parquet")), "killed in the middle of its only unit"
        endpoint.delay_s = 0.0
        run_inline(overrides)
        again = len(endpoint.bodies) - paid
    assert again == PROMPTS * SAMPLES - kept
    report = json.loads((run_dir / "report.json").read_text())
    assert report["stages"]["generate-main"]["rows"] == PROMPTS * SAMPLES
