#!/usr/bin/env bash
# Writes cpu.lock, gpu.lock and dev.lock from pyproject.toml. `make lock` calls it; pins move only with ARGS=--upgrade.
#
# The locks are resolved for Python 3.11 on Linux x86-64 (glibc 2.34 or newer), and a test resolves them for 3.12 and
# 3.13 too. uv resolves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

torch_index=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check uv

# shellcheck source=requirements/indexes.sh
source requirements/indexes.sh
read_indexes .venv/bin/python

compile() { # compile <lock> <uv arguments...>: the pins that the lock holds already are kept where they still fit
  local lock=$1
  shift
  "$tools/bin/uv" pip compile pyproject.toml requirements/build.txt --quiet --no-annotate \
    --python-version 3.11 --python-platform x86_64-manylinux_2_34 --index-strategy unsafe-best-match \
    --custom-compile-command "make lock" --output-file "$lock" ${indexes[@]+"${indexes[@]}"} "$@"
}

# Everything is resolved together first, so that dev.lock (what tests and linters need on top) fits both other locks.
new=$tools/new
mkdir "$new"
cpu=(--extra cpu --extra train --override requirements/overrides.txt ${links[@]+"${links[@]}"})
cat requirements/{cpu,dev}.lock >"$new/all" 2>/dev/null || true
compile "$new/all" "${cpu[@]}" --extra dev "$@" || {
  cpu+=(--index "$torch_index")
  compile "$new/all" "${cpu[@]}" --extra dev "$@"
}
cp "$new/all" "$new/cpu.lock"
compile "$new/cpu.lock" "${cpu[@]}" --constraint "$new/all"
{ head -n 2 "$new/all" && grep -vxFf "$new/cpu.lock" "$new/all"; } >"$new/dev.lock"

# No find-links here: a directory of +cpu wheels would outrank the CUDA build of torch.
# On Python 3.12 and 3.13 vLLM 0.32 asks for a setuptools below 81, on 3.11 for none.
echo 'setuptools<81' >"$new/gpu-constraints.txt"
gpu=(--extra gpu --extra train --constraint "$new/gpu-constraints.txt")
cat requirements/gpu.lock >"$new/all" 2>/dev/null || true
compile "$new/all" "${gpu[@]}" --extra dev --constraint "$new/dev.lock" "$@"
cp "$new/all" "$new/gpu.lock"
compile "$new/gpu.lock" "${gpu[@]}" --constraint "$new/all"

cp "$new"/*.lock requirements/
