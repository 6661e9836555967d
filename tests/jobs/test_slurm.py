"""jobs/slurm.sh with real Ray, on a machine that plays two Slurm nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.local_ray import LIMIT_S, ROOT, end, free_port

# Stand in for Slurm: as many copies as --nodes asks for, all on this machine.
FAKE_SRUN = """#!/bin/bash
nodes=1
while [[ $1 == --* ]]; do
  [[ $1 != --nodes=* ]] || nodes=${1#*=}
  shift
done
trap 'kill $(jobs -p) 2>/dev/null' TERM
for ((node = 0; node < nodes; node++)); do SLURM_NODEID=$node "$@" & done
wait
wait
"""
FAKE_SCONTROL = "#!/bin/bash\nprintf 'node1\\nnode2\\n'\n"


@dataclass(frozen=True)
class Slurm:
    """A Slurm allocation of this machine."""

    environment: dict[str, str]
    directory: Path

    def run(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        script = [ROOT / "jobs/slurm.sh", *overrides]
        process = subprocess.Popen(
            script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        try:
            output, errors = process.communicate(timeout=LIMIT_S)
        finally:
            end(process)
        return subprocess.CompletedProcess(script, process.returncode, output, errors)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, text in (("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL)):
        (binaries / name).write_text(text, encoding="utf-8")
        (binaries / name).chmod(0o755)
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    environment |= {
        "PATH": f"{binaries}:{environment['PATH']}",
        "SLURM_SUBMIT_DIR": str(checkout),
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SYNTHGEN_HEAD_IP": "127.0.0.1",
    }
    return Slurm(environment, checkout)


def test_slurm_options_come_before_the_first_command() -> None:
    lines = (ROOT / "jobs/slurm.sh").read_text(encoding="utf-8").splitlines()
    first_command = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    options = [index for index, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options
    assert max(options) < first_command
    assert {"#SBATCH --exclusive", "#SBATCH --mem=0", "#SBATCH --signal=B:TERM@90", "#SBATCH --requeue"} <= set(lines)


@pytest.mark.slow
def test_slurm_runs_on_all_nodes_and_leaves_nothing_behind(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.run("experiment=echo", f"run.dir={tmp_path}/run", "prompts.limit=4", "run.unit_size=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run/report.json").exists()
    assert list((slurm.directory / "runs").iterdir()) == []
    port = 20000 + int(slurm.environment["SLURM_JOB_ID"]) % 10000
    assert not [p for p in psutil.process_iter(["cmdline"]) if f"127.0.0.1:{port}" in " ".join(p.info["cmdline"] or [])]


@pytest.mark.slow
def test_slurm_ends_with_the_status_of_the_run(slurm: Slurm, tmp_path: Path) -> None:
    slurm.environment["SLURM_JOB_NUM_NODES"] = "1"
    done = slurm.run("experiment=echo", f"run.dir={tmp_path}/run", "prompts.path=/nowhere.jsonl")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "prompts.path=/nowhere.jsonl" in done.stderr


def test_slurm_starts_nothing_for_a_misspelt_key(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.run("experiment=echo", f"run.dir={tmp_path}/run", "run.sed=1")
    assert done.returncode == 2
    assert "did you mean run.seed?" in done.stderr
    assert not (slurm.directory / "runs").exists()


def test_slurm_says_that_set_up_is_missing(slurm: Slurm) -> None:
    (slurm.directory / ".venv").unlink()
    slurm.environment["PATH"] = ":".join(
        part for part in slurm.environment["PATH"].split(":") if not (Path(part) / "synthgen").exists()
    )
    done = slurm.run("experiment=echo")
    assert done.returncode == 2
    assert "make setup" in done.stderr


FAKES = {
    # Each says what it was called with. `srun` answers for the nodes, and plays Ray's nodes by waiting.
    "srun": """
case "$*" in
  *hostname*) echo "$FAKE_ADDRESSES" ;;
  *getent*) for one in $FAKE_NAMED; do echo "$one STREAM"; done ;;
  *"ray start"*) all=$*; echo "srun ${all%% bash -c *}" >>"$SAID"; exec sleep 600 ;;
  *--container-image=*)
    echo "srun $*" >>"$SAID"
    while [[ $1 == --* ]]; do shift; done
    exec "$@" ;; # passes signals on as they are; srun itself kills its tasks for TERM
esac
""",
    "scontrol": """
[[ $1 == show ]] && printf 'node1\\nnode2\\n' && exit
echo "scontrol $*" >>"$SAID"
""",
    "apptainer": """
echo "apptainer $*" >>"$SAID"
while [[ $1 != synthgen && $1 != python ]]; do shift; done
exec "$@"
""",
    "squeue": 'echo "  $FAKE_LEFT "',
    "python": """
until grep -q -- "--ntasks-per-node=1" "$SAID"; do sleep 0.1; done
[[ $FAKE_STOP != early ]] || { kill -TERM "$(cat "$SAID.pid")"; exec sleep 600; }
grep -q "^import ray" || exit 3
echo "connects to $2" >>"$SAID"
""",
    "synthgen": """
[[ $1 == run ]] || exit 0
[[ -z $FAKE_STOP ]] && exit
trap 'exit 143' TERM
kill -TERM "$(cat "$SAID.pid")"
while :; do sleep 0.1; done
""",
}


@pytest.fixture
def played(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], str]]:
    """The script among programs that say what they were called with: Slurm, Ray's nodes, synthgen."""
    binaries = tmp_path / ".venv/bin"
    binaries.mkdir(parents=True)
    for name, text in FAKES.items():
        (binaries / name).write_text(f"#!/bin/bash\n{text}", encoding="utf-8")
        (binaries / name).chmod(0o755)

    def play(nodes: int = 2, **variables: str) -> tuple[subprocess.CompletedProcess[str], str]:
        said = tmp_path / "said"
        said.unlink(missing_ok=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SYNTHGEN_"))
        }
        environment |= {
            "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": str(nodes), "SAID": str(said), "FAKE_STOP": "", "FAKE_NAMED": "",
            "FAKE_ADDRESSES": "", "FAKE_LEFT": "", "PATH": f"{binaries}:{environment['PATH']}", **variables,
        }  # fmt: skip
        script = [ROOT / "jobs/slurm.sh", "experiment=echo"]
        process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        (tmp_path / "said.pid").write_text(str(process.pid), encoding="utf-8")
        try:
            output, errors = process.communicate(timeout=LIMIT_S)
        finally:
            end(process)
        done = subprocess.CompletedProcess(script, process.returncode, output, errors)
        return done, said.read_text(encoding="utf-8") if said.exists() else ""

    return play


@pytest.mark.parametrize(
    ("addresses", "named", "chosen"),
    [
        ("127.0.1.1 10.0.0.1", "127.0.1.1", "10.0.0.1"),
        ("fe80::1%eth0 fe80::2 10.0.0.1", "", "10.0.0.1"),
        ("172.17.0.1 10.0.0.1", "10.0.0.1 fe80::1", "10.0.0.1"),
        ("169.254.3.4 192.168.1.5 10.0.0.1", "", "192.168.1.5"),
        ("fe80::1 2001:db8::5", "2001:db8::5", "[2001:db8::5]"),
    ],
)
def test_slurm_takes_the_address_that_other_nodes_reach(
    played: Callable[..., Any], addresses: str, named: str, chosen: str
) -> None:
    done, said = played(FAKE_ADDRESSES=addresses, FAKE_NAMED=named)
    assert done.returncode == 0, done.stderr
    assert f"connects to {chosen}:20017\n" in said


def test_slurm_without_an_address_says_how_to_give_one(played: Callable[..., Any]) -> None:
    done, said = played(FAKE_ADDRESSES="127.0.0.1 fe80::1")
    assert (done.returncode, said) == (2, "")
    assert "SYNTHGEN_HEAD_IP=" in done.stderr
    done, said = played(nodes=1, FAKE_ADDRESSES="")
    assert done.returncode == 0
    assert "connects to 127.0.0.1:20017\n" in said


@pytest.mark.parametrize(
    ("left", "requeue", "again"),
    [("1:12", "", True), ("0:09", "", True), ("58", "", True), ("1:12", "no", False), ("12:31:07", "", False),
     ("1-03:00:00", "", False), ("UNLIMITED", "", False), ("", "", False), ("14:00", "", False)],
)  # fmt: skip
def test_slurm_queues_a_job_again_whose_time_is_up(
    played: Callable[..., Any], left: str, requeue: str, again: bool
) -> None:
    """A job with hours left was stopped by a person."""
    more = {"SYNTHGEN_REQUEUE": requeue} if requeue else {}
    done, said = played(FAKE_ADDRESSES="10.0.0.1", FAKE_STOP="yes", FAKE_LEFT=left, **more)
    assert done.returncode == 143, done.stderr
    assert ("scontrol requeue 17\n" in said) is again
    assert ("goes on from what was committed" in done.stderr) is again


def test_slurm_runs_all_of_it_in_an_image_by_apptainer(played: Callable[..., Any], tmp_path: Path) -> None:
    more = {"SYNTHGEN_IMAGE": "/shared/synthgen.sif", "SYNTHGEN_MOUNTS": "/scratch,/data:/mnt"}
    done, said = played(FAKE_ADDRESSES="10.0.0.1", **more)
    assert done.returncode == 0, done.stderr
    into = f"exec --nv --bind {tmp_path}:{tmp_path},/scratch:/scratch,/data:/mnt --pwd {tmp_path} /shared/synthgen.sif"
    assert f"apptainer {into} synthgen config experiment=echo\n" in said
    assert f"apptainer {into} python - 10.0.0.1:20017 2\n" in said
    assert f"apptainer {into} synthgen run experiment=echo\n" in said
    nodes = next(line for line in said.splitlines() if line.startswith("srun"))
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 " in nodes
    assert nodes.endswith(f"apptainer {into}")


def test_slurm_runs_all_of_it_in_an_image_by_pyxis(played: Callable[..., Any], tmp_path: Path) -> None:
    done, said = played(FAKE_ADDRESSES="10.0.0.1", SYNTHGEN_IMAGE="ghcr.io#me/synthgen:0.1.0-gpu")
    assert done.returncode == 0, done.stderr
    into = (
        f"--container-image=ghcr.io#me/synthgen:0.1.0-gpu --container-mounts={tmp_path}:{tmp_path},/tmp:/tmp "
        f"--container-workdir={tmp_path}"
    )
    here = f"srun --overlap --nodes=1 --ntasks=1 --nodelist=node1 {into}"
    assert f"{here} bash -c " in said
    assert "stoppable synthgen config experiment=echo\n" in said
    assert "stoppable python - 10.0.0.1:20017 2\n" in said
    assert "stoppable synthgen run experiment=echo\n" in said
    assert f"srun --overlap --nodes=2 --ntasks=2 --ntasks-per-node=1 {into}\n" in said
    assert "apptainer" not in said


@pytest.mark.parametrize("image", ["", "/shared/synthgen.sif", "/shared/synthgen.sqsh"])
def test_slurm_passes_a_wish_to_stop_on_to_the_run(played: Callable[..., Any], image: str) -> None:
    done, _ = played(FAKE_ADDRESSES="10.0.0.1", FAKE_STOP="yes", FAKE_LEFT="12:00:00", SYNTHGEN_IMAGE=image)
    assert done.returncode == 143, done.stderr


@pytest.mark.parametrize("image", ["", "/shared/synthgen.sif", "/shared/synthgen.sqsh"])
def test_slurm_that_is_stopped_before_the_run_says_so_at_once(played: Callable[..., Any], image: str) -> None:
    done, said = played(FAKE_ADDRESSES="10.0.0.1", FAKE_STOP="early", FAKE_LEFT="1:12", SYNTHGEN_IMAGE=image)
    assert done.returncode == 143
    assert "stopped before Ray stood on all nodes; submit it again, with more --time" in done.stderr
    assert "requeue" not in said
