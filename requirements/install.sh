#!/usr/bin/env bash
# Makes .venv from a lock file and installs the project into it, editable. `make setup` calls it.
#
#   requirements/install.sh [cpu|gpu]      PYTHON=/path/to/python3.11 names another interpreter
#
# Without an argument it keeps the kind that .venv has, else cpu. A stamp keyed by the locks and pyproject.toml makes
# the second call a matter of milliseconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/.synthgen-setup
log=.venv/setup.log
had=("" "" "" "") # the kind, its directory, the hash of the locks, the hash of pyproject.toml
[[ ! -f $stamp ]] || mapfile -t had <"$stamp"
kind=${1:-${had[0]:-cpu}}
locks=("requirements/$kind.lock" requirements/dev.lock)
# Asked for torch alone, and only when the configured index has no CPU build of it (PyPI has none).
torch_index=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}

fail() {
  printf 'set-up: %s\n' "$*" >&2
  exit 1
}

step() { # step <label> <command...>: one line, the output in the log
  local label=$1 start=$SECONDS
  shift
  printf '%-44s' "  $label"
  if "$@" >>"$log" 2>&1; then
    printf '%4d s\n' $((SECONDS - start))
  else
    printf 'failed\n'
    tail -n 25 "$log" >&2
    fail "stopped at \"$label\"; the whole log is $log"
  fi
}

find_python() { # the first interpreter that the lock serves
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
    [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 that runs; name another or unset it"
  done
  fail "needs Python 3.11 (3.12 and 3.13 serve too), found $(python3 --version 2>/dev/null || echo none);" \
    "install python3.11 and python3.11-venv, or name one: make setup PYTHON=/path/to/python3.11"
}

make_venv() {
  local python output
  python=$(find_python)
  if [[ $PWD == *[[:space:]]* ]]; then
    # Neither LD_PRELOAD, which vLLM sets on a CPU, nor torch's compiler takes a path with spaces: .venv is a link then.
    local place
    place=${XDG_CACHE_HOME:-$HOME/.cache}/synthgen/venv-$(sha256sum <<<"$PWD" | head -c 12)
    [[ $place != *[[:space:]]* ]] || fail "$PWD and $place hold spaces; set XDG_CACHE_HOME to a directory without"
    rm -rf .venv
    mkdir -p "$place"
    ln -s "$place" .venv
  fi
  if ! output=$("$python" -m venv --clear "$(readlink -f .venv)" 2>&1); then
    fail "$python -m venv failed (on Debian and Ubuntu: apt-get install python3-venv): $output"
  fi
}

# By its real path, which becomes the first line of every script that pip writes.
pip() { PIP_USER=0 "$(readlink -f .venv)/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

# By uv, which takes a fifth of pip's time, and by pip where uv cannot be had or does not manage.
install_pinned() { # install_pinned <arguments of pip install...>
  local python
  python=$(readlink -f .venv)/bin/python
  # shellcheck source=requirements/indexes.sh
  source requirements/indexes.sh
  if pip install --no-deps "$(grep '^uv==' requirements/dev.lock)" && [[ -x ${python%/*}/uv ]]; then
    read_indexes "$python"
    if "${python%/*}/uv" pip install --python "$python" --index-strategy unsafe-best-match \
      ${indexes[@]+"${indexes[@]}"} ${links[@]+"${links[@]}"} "$@"; then
      return
    fi
    echo "uv did not manage; pip does it"
  fi
  pip install "$@"
}

install_torch() {
  pip install --no-deps "$torch" || pip install --no-deps --index-url "$torch_index" "$torch"
}

remove_mismatched() { # torchvision and its like break transformers unless they are built as torch is
  local found name
  for found in .venv/lib/python3*/site-packages/torch{vision,audio,codec}-*.dist-info; do
    if [[ -d $found && $found != *+cpu.dist-info ]]; then
      name=${found##*/}
      name=${name%%-*}
      step "removing $name, no CPU build" pip uninstall --yes "$name"
    fi
  done
}

[[ -f ${locks[0]} ]] || fail "unknown kind \"$kind\"; try cpu or gpu"
[[ $(uname -s) == Linux && $(uname -m) == x86_64 ]] ||
  fail "${locks[0]} serves Linux on x86-64, this is $(uname -sm); the Dockerfile's cpu target runs elsewhere by emulation"

exec 9<"${locks[0]}"
flock 9 2>/dev/null || true # two makes at once: the second waits
[[ ! -f $stamp ]] || mapfile -t had <"$stamp"

locked=$(cat "${locks[@]}" | sha256sum)
project=$(sha256sum <pyproject.toml)
if [[ ${had[*]} == "$kind $PWD $locked $project" && -x .venv/bin/synthgen ]]; then
  [[ $kind == gpu ]] || remove_mismatched
  exit 0
fi

printf 'set-up of .venv from %s\n' "${locks[0]}"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  make_venv
elif [[ -n ${had[0]} && "${had[0]} ${had[1]}" != "$kind $PWD" ]]; then
  make_venv # another kind, or moved: console scripts hold absolute paths
  had=("" "" "" "")
fi

: >"$log"
if [[ ${had[2]} != "$locked" ]]; then
  if [[ $kind == cpu ]]; then
    torch=$(grep '^torch==' "${locks[0]}")
    step "$torch" install_torch
  fi
  step "$(cat "${locks[@]}" | grep -c '^[a-z]') pinned packages" install_pinned --no-deps -r "${locks[0]}" -r "${locks[1]}"
fi
if compgen -G ".venv/lib/python3*/site-packages/synthgen-*.dist-info" >/dev/null; then # this project's name until 0.1
  step "removing the package's former name" pip uninstall --yes synthgen
fi
step "synthgen, editable" pip install --no-deps --no-build-isolation --editable .
[[ $kind == gpu ]] || remove_mismatched
printf '%s\n' "$kind" "$PWD" "$locked" "$project" >"$stamp"
printf 'ready: .venv, %s\n' "$(.venv/bin/python --version)"
