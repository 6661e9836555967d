"""Runs synthgen as a job on a running Ray cluster, shows its log and exits with its status.

What `ray job submit --working-dir . -- synthgen run …` does, with three differences: the exit status is the run's own
(Ray 2.60's client ends with 1 whatever the status was, and with 0 for a stopped job), a run directory that would be
deleted with the job is refused, and a stopped job gets the time to commit what is in flight.

The checkout travels with the job, less what .gitignore and .rayignore name, so the nodes need only its packages.

    RAY_API_SERVER_ADDRESS, RAY_ADDRESS    where the cluster's dashboard is (default http://127.0.0.1:8265)
    RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH    its token (default ~/.ray/auth_token, which `ray start` makes)
    FORWARD_ENV="HF_HOME HF_ENDPOINT"      variables of this shell that the job gets too. Not for secrets: whoever sees
                                           the dashboard sees them. Those belong on the nodes (docs/cluster.md)
    SUBMISSION_ID=first                    the job's name (default synthgen-<date and time>)
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).resolve().parent.parent
STOP_WAIT_S = 60  # Ray's three seconds are too few for a run to commit what is in flight (run.grace_s)
STOPPED = 130


class SubmitError(Exception):
    """What keeps a job from being submitted: one line, and the exit status."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def main(arguments: list[str]) -> int:
    """Submit, follow and return the exit status: the run's own, 130 for a stopped job or an interrupt here."""
    interrupted = "nothing was submitted"
    if any(one in ("--help", "-h") for one in arguments):
        print(f"jobs/submit.sh [run|plan|…] key=value …\n\n{__doc__}")
        return 0
    try:
        command, overrides = split_command(arguments)
        address, job = find_address(), os.environ.get("SUBMISSION_ID") or time.strftime("synthgen-%Y%m%d-%H%M%S")
        client = connect(address)
        submit(client, job, ["python", "-m", "synthgen", command, *overrides])
        interrupted = f"{job} goes on; see it: ray job logs --follow --address {address} {job}"
        say(f"{job} runs at {address}; stop it: ray job stop --address {address} {job}")
        return follow(client, job)
    except SubmitError as error:
        say(str(error))
        return error.status
    except KeyboardInterrupt:
        say(interrupted)
        return STOPPED


def split_command(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the synthgen command and its overrides. Raises SubmitError for a run directory that would be lost."""
    named = bool(arguments) and "=" not in arguments[0]
    command, overrides = (arguments[0], arguments[1:]) if named else ("run", arguments)
    if command == "run":
        given = [value for key, _, value in (item.partition("=") for item in overrides) if key == "run.dir"]
        value = given[-1] if given else ""
        if not value.startswith("/") and "://" not in value:
            raise SubmitError(
                f"run.dir={value} must be an absolute path or a URL that every node sees (a job's own directory is "
                "deleted with it), such as run.dir=/shared/runs/first"
            )
    return command, overrides


def find_address() -> str:
    """Return the dashboard's URL from the environment."""
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or "http://127.0.0.1:8265"
    if "://" not in address:
        raise SubmitError(f"RAY_ADDRESS={address} must be the dashboard's, such as RAY_ADDRESS=http://head:8265")
    return address


def connect(address: str) -> JobSubmissionClient:
    """Return a client of the cluster, with its token where there is one."""
    tokens = [os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")]
    if any(tokens) or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise SubmitError("ray is not installed here; run make setup first") from error
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except Exception as error:  # requests', Ray's and its authentication's errors share no base
        raise SubmitError(f"{address}: {first_line(error)}", status=1) from error


def submit(client: JobSubmissionClient, job: str, entrypoint: list[str]) -> None:
    """Upload the checkout and start the job."""
    variables = {name: os.environ[name] for name in os.environ.get("FORWARD_ENV", "").split() if name in os.environ}
    variables["RAY_JOB_STOP_WAIT_TIME_S"] = str(STOP_WAIT_S)
    try:
        client.submit_job(
            entrypoint=shlex.join(entrypoint),
            submission_id=job,
            runtime_env={"working_dir": str(ROOT), "env_vars": variables},
        )
    except (RuntimeError, ValueError, ConnectionError) as error:
        raise SubmitError(f"{job} was not accepted: {first_line(error)}", status=1) from error


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log to its end and return its exit status."""
    from ray.job_submission import JobStatus

    async def print_log() -> None:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)

    try:
        asyncio.run(print_log())
    except (RuntimeError, OSError) as error:
        say(f"the log broke off ({first_line(error)}); waiting for the job's end")
    while not (info := client.get_job_info(job)).status.is_terminal():
        time.sleep(2)
    if info.status is JobStatus.STOPPED:
        say(f"{job} was stopped; the same command goes on from what it committed")
        return STOPPED
    if info.status is JobStatus.SUCCEEDED:
        return 0
    code = info.driver_exit_code
    if code is None:
        say(f"{job} did not start: {first_line(info.message or 'no reason given')}")
        return 1
    return 128 - code if code < 0 else code or 1


def say(text: str) -> None:
    """Print one line of this script's own, apart from the job's log."""
    print(f"submit: {text}", file=sys.stderr, flush=True)


def first_line(error: object) -> str:
    """Return the first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
