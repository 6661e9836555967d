"""The code engine: what a check returns, raises, or does to its process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from synthgen.config import ModelConfig, ScorerConfig
from synthgen.engines.code import CodeEngine
from synthgen.errors import RequestError, RunFailedError
from synthgen.records import Request, Sampling
from synthgen.verifiers.settings import make_check

OWN = """
import os, sys, time

def check(*, prompt, completion, reference, metadata):
    print("a check may print")
    if completion == "raise":
        raise ValueError("no such thing")
    if completion == "exit":
        sys.exit(3)
    if completion == "die":
        os._exit(3)
    if completion == "hang":
        while True:
            time.sleep(60)
    if completion == "none":
        return None
    if completion == "text":
        return "1"
    if completion == "nan":
        return float("nan")
    return len(prompt) + len(reference or "") + metadata.get("more", 0)
"""


def make_request(check: str, completion: str, **tags: str) -> Request:
    turn = {"role": "user", "content": "go"}
    tags = {"check": check, "completion": completion, "timeout_s": "30", **tags}
    return Request("a/b", [turn], Sampling(), tags=tags)  # type: ignore[list-item]


async def ask(engine: CodeEngine, request: Request) -> Any:
    try:
        (completion,) = await engine.generate(request)
    except RequestError as error:
        return error.reason, str(error), error.retryable
    answer = json.loads(completion.text)
    return answer["value"], answer["reason"]


async def test_whatever_a_check_does_is_an_answer_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    check = make_check("scorers.a", ScorerConfig(kind=f"python:{path}:check")).dump()
    path.unlink()  # the text travels with the check
    engine = CodeEngine(ModelConfig(max_num_seqs=1))
    assert (await engine.start()).max_num_seqs == 1
    try:
        whole = make_request(check, "fine", reference="abc", metadata='{"more": 2}')
        assert await ask(engine, whole) == (6.0, None)
        assert await ask(engine, make_request(check, "none")) == (None, "no_verdict")
        raised = ("raised", "ValueError: no such thing (line 7 of own.py)", False)
        assert await ask(engine, make_request(check, "raise")) == raised
        assert await ask(engine, make_request(check, "exit")) == ("raised", "SystemExit: 3", False)
        for completion in ("text", "nan"):
            assert (await ask(engine, make_request(check, completion)))[0] == "bad_value"
        died = ("verifier_died", "the check ended its process (exit status 3)", False)
        assert await ask(engine, make_request(check, "die")) == died
        hung = ("timed_out", "the check took more than 0.1 s", True)
        assert await ask(engine, make_request(check, "hang", timeout_s="0.1")) == hung
        assert await ask(engine, whole) == (6.0, None)
    finally:
        await engine.close()


async def test_check_that_was_given_up_answers_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("import time\ndef check(*, completion, **_):\n    time.sleep(float(completion)); return 1\n")
    check = make_check("scorers.a", ScorerConfig(kind=f"python:{path}:check")).dump()
    engine = CodeEngine(ModelConfig(max_num_seqs=1))
    await engine.start()
    try:
        assert await ask(engine, make_request(check, "0")) == (1.0, None)
        given_up = asyncio.ensure_future(engine.generate(make_request(check, "60")))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        regex = make_check("scorers.b", ScorerConfig(kind="regex", pattern="a")).dump()
        assert await ask(engine, make_request(regex, "b")) == (0.0, None)
    finally:
        await engine.close()


async def test_check_that_cannot_be_loaded_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("import no_such_package\ndef check(**_): return 1\n")
    check = make_check("scorers.a", ScorerConfig(kind=f"python:{path}:check")).dump()
    engine = CodeEngine(ModelConfig(max_num_seqs=1))
    await engine.start()
    with pytest.raises(
        RunFailedError, match="cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'"
    ):
        await engine.generate(make_request(check, "a"))
    await engine.close()


def test_checks_end_with_a_replica_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, time\n"
        "def check(**_):\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"    os.rename({str(tmp_path / 'pid')!r}, {str(tmp_path / 'there')!r})\n"
        "    while True: time.sleep(60)\n"
    )
    script = (
        "import asyncio\n"
        "from tests.engines.test_code import *\n"
        f"check = make_check('scorers.a', ScorerConfig(kind='python:{tmp_path / 'own.py'}:check')).dump()\n"
        "engine = CodeEngine(ModelConfig(max_num_seqs=1))\n"
        "async def main():\n"
        "    await engine.start()\n"
        "    await engine.generate(make_request(check, 'a', timeout_s='1000'))\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    replica = subprocess.Popen([sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        while not (tmp_path / "there").exists():
            assert replica.poll() is None
        check = psutil.Process(int((tmp_path / "there").read_text()))
    finally:
        replica.kill()
        replica.wait()
    psutil.wait_procs([check], timeout=30)
    assert not check.is_running()
