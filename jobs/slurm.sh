#!/usr/bin/env bash
# Starts Ray on the nodes of a Slurm job and runs synthgen on them; the job's status is the run's.
#
#   sbatch jobs/slurm.sh experiment=llama31_ultrafeedback cluster=auto run.dir=/shared/runs/first
#   sbatch --nodes=4 --time=12:00:00 jobs/slurm.sh …       options before the script win over those below
#
# Submit it from the checkout (on a file system that every node sees) after `make setup KIND=gpu` there. Ninety seconds
# before its time is up the run commits what is in flight and the job queues itself again, until the run is complete
# (SYNTHGEN_REQUEUE=no leaves that out). A job that was cancelled: submit it again, it goes on from what was committed.
#
#   SYNTHGEN_HEAD_IP=10.0.0.1           the first node's address for the others, where the script cannot find it out
#   SYNTHGEN_IMAGE=/shared/synthgen.sif run all of it in this image (of the Dockerfile), by Apptainer; by pyxis where it
#                                       is a .sqsh of enroot's or a registry's name; no .venv is needed then
#   SYNTHGEN_MOUNTS=/scratch,/data      what the image sees besides this directory; SOURCE:TARGET, too
#SBATCH --job-name=synthgen
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=synthgen-%j.log
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?run it with sbatch}"
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST") # no pipe into head: it may close too early
head=${hosts[0]}

# Before a command on this node (here) and on every one, behind srun's options (there): what puts it into the image.
here=() there=() container=()
# What `here` passes on as a wish to stop. srun kills its tasks for TERM, and passes USR1 on.
stop=TERM
image=${SYNTHGEN_IMAGE:-}
if [[ -z $image ]]; then
  PATH=$PWD/.venv/bin:$PATH
  command -v synthgen >/dev/null || {
    echo "slurm: no .venv in $PWD; run make setup KIND=gpu there, or name an image: SYNTHGEN_IMAGE=…" >&2
    exit 2
  }
else
  mounts=$PWD:$PWD
  IFS=, read -ra more <<<"${SYNTHGEN_MOUNTS:-}"
  for mount in ${more[@]+"${more[@]}"}; do
    [[ $mount == *:* ]] || mount=$mount:$mount
    mounts+=,$mount
  done
  if [[ $image == *.sif || $image == docker://* || -d $image ]]; then
    runner=$(command -v apptainer || command -v singularity) || {
      echo "slurm: SYNTHGEN_IMAGE=$image needs apptainer, which $(hostname) has not; load its module, or take a .sqsh" >&2
      exit 2
    }
    there=("$runner" exec --nv --bind "$mounts" --pwd "$PWD" "$image")
    here=("${there[@]}")
  else
    # shellcheck disable=SC2016 # expanded in the container
    term_for_usr1='(trap "" USR1; exec "$@") <&0 & trap "kill -TERM $!" USR1; status=0; wait $! || status=$?
      while kill -0 $! 2>/dev/null; do status=0; wait $! || status=$?; done; exit "$status"'
    # Ray's sockets lie in /tmp, and Ray and the run are two containers.
    container=("--container-image=$image" "--container-mounts=$mounts,/tmp:/tmp" "--container-workdir=$PWD")
    here=(srun --overlap --nodes=1 --ntasks=1 "--nodelist=$head" "${container[@]}" bash -c "$term_for_usr1" stoppable)
    stop=USR1
  fi
fi
inside() { ${here[@]+"${here[@]}"} "$@"; }

inside synthgen config "$@" >/dev/null # a misspelt key ends the job here, before Ray starts anywhere

# Of its addresses the one that its name stands for on another node (on the node itself Debian's /etc/hosts says
# 127.0.1.1), else the first of IPv4. Never loopback or link-local ones, which no other node reaches.
head_ip=${SYNTHGEN_HEAD_IP:-}
if [[ -z $head_ip ]]; then
  own=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --all-ip-addresses || true)
  named=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="${hosts[-1]}" \
    sh -c "getent ahosts $head || true" | awk '{print $1}' || true)
  head_ip=$(awk -v named="$named" '
    { for (i = 1; i <= NF; i++) if ($i !~ /^(127\.|169\.254\.|::1$|fe80:)/) own[++count] = $i }
    END {
      split(named, names)
      for (i = 1; i in names; i++) wanted[names[i]]
      for (i = 1; i <= count; i++) if (own[i] in wanted) { print own[i]; exit }
      for (i = 1; i <= count; i++) if (own[i] !~ /:/) { print own[i]; exit }
      if (count) print own[1]
    }' <<<"$own")
fi
[[ -n $head_ip || $SLURM_JOB_NUM_NODES != 1 ]] || head_ip=127.0.0.1
if [[ -z $head_ip ]]; then
  echo "slurm: $head has no address that other nodes reach; give it one: SYNTHGEN_HEAD_IP=10.0.0.1 sbatch …" >&2
  exit 2
fi
port=$((20000 + SLURM_JOB_ID % 10000))
address=$head_ip:$port
[[ $head_ip != *:* ]] || address=[$head_ip]:$port

# Ray without a token runs code for whoever reaches the port. One token per job, readable by its owner alone.
mkdir -p runs
state=$(mktemp -d "$PWD/runs/.slurm-$SLURM_JOB_ID-XXXXXX")
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$state/token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$state/token RAY_USAGE_STATS_ENABLED=0

# shellcheck disable=SC2016 # expanded on the nodes
start_node='
  if [[ $SLURM_NODEID == 0 ]]; then
    exec ray start --head --node-ip-address="$HEAD_IP" --port="${ADDRESS##*:}" --block
  fi
  until ray health-check --address "$ADDRESS" >/dev/null 2>&1; do sleep 2; done
  exec ray start --address="$ADDRESS" --block'
HEAD_IP=$head_ip ADDRESS=$address srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  --ntasks-per-node=1 ${container[@]+"${container[@]}"} ${there[@]+"${there[@]}"} bash -c "$start_node" >"$state/ray.log" 2>&1 &
ray=$!
trap 'kill "$ray" 2>/dev/null || true; wait "$ray" 2>/dev/null || true; rm -rf "$state"' EXIT

stopped=
child=$ray
trap 'stopped=yes; kill -"$stop" "$child" 2>/dev/null || true' TERM INT
(exec ${here[@]+"${here[@]}"} python - "$address" "$SLURM_JOB_NUM_NODES") <<'PYTHON' &
import sys, time
import ray

address, wanted, deadline = sys.argv[1], int(sys.argv[2]), time.monotonic() + 600
alive = 0
while alive < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"slurm: {alive} of {wanted} Ray nodes after ten minutes")
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        alive = sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, RuntimeError):
        pass  # the head is still starting
    time.sleep(1)
PYTHON
child=$!
[[ -z $stopped ]] || kill -"$stop" "$child" 2>/dev/null || true # it came in between
wait "$child" || {
  tail -n 20 "$state/ray.log" >&2
  [[ -n $stopped ]] || exit 1
  # No run, so nothing to go on from: queued again, it would come no further.
  echo "slurm: stopped before Ray stood on all nodes; submit it again, with more --time if that is what ran out" >&2
  exit 143
}

(
  export RAY_ADDRESS=$address
  exec ${here[@]+"${here[@]}"} synthgen run "$@" # in the place of this shell, so that signals reach it
) &
child=$! # from now on the trap reaches it: it commits what is in flight and ends
[[ -z $stopped ]] || kill -"$stop" "$child" 2>/dev/null || true
status=0
wait "$child" || status=$?
if [[ -n $stopped ]]; then # the trap ended that wait, not the driver
  status=0
  wait "$child" || status=$?
fi
# Stopped shortly before the time limit, and not by a person: back into the queue. `squeue` says what is left of it.
if [[ -n $stopped && $status == 143 && ${SYNTHGEN_REQUEUE:-yes} != no ]]; then
  left=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%L 2>/dev/null | tr -d ' ' || true)
  if [[ $left =~ ^(0?[0-2]:)?[0-9][0-9]?$ ]]; then # under three minutes, as [minutes:]seconds
    echo "slurm: out of time; job $SLURM_JOB_ID is queued again and goes on from what was committed" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "slurm: it could not be queued again; submit it again" >&2
  fi
fi
exit "$status"
