# Every target sets up what it needs; `make` alone lists them.
#   MODEL=<catalog name, Hub id, directory, .gguf file>   what `make demo` generates and judges with (default: SmolLM2)
#   ARGS="…"                                              more overrides for demo, more options for test, trainers, bench, chaos, lock
#   JOBS=2                                                in how many processes `make test` runs
#   PYTHON=/path/to/python3.11                            which interpreter .venv is made from

SHELL := /bin/bash
.DEFAULT_GOAL := help
PY = "$$(readlink -f .venv)/bin/python" # .venv is a link where the path of the checkout holds spaces
KIND ?=
MODEL ?=
ARGS ?=
JOBS ?= 2

.PHONY: help setup demo prove test trainers check format bench six chaos soak lock wheel clean distclean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: ## make .venv from the lock (KIND=cpu or gpu); nothing to do when it is there
	@PYTHON='$(PYTHON)' requirements/install.sh $(KIND)

demo: setup ## run the whole pipeline on this machine: prompts in, preference data set out
	@.venv/bin/synthgen run experiment=demo run.dir=runs/demo $(if $(MODEL),'model=$(MODEL)') $(ARGS)

prove: setup ## show on this machine that a run's pairs make a model better, and that random sides do not
	@.venv/bin/synthgen run experiment=prove run.dir=runs/prove $(ARGS)
	@.venv/bin/synthgen prove run_dir=runs/prove

# Half of a test's time is waiting; a file's tests share what its fixtures have made, and so a process.
test: setup ## run the tests, in JOBS processes
	@$(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

trainers: setup ## load every export by the trainers' own code (installs them aside)
	@PYTHONPATH=tests $(PY) -m trainers $(ARGS)

check: setup ## lint, formatting, types; shell scripts and the Dockerfile too
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/shellcheck .ci/run requirements/*.sh jobs/*.sh
	@.venv/bin/hadolint Dockerfile

format: setup ## apply formatting and the lint fixes that are safe; write docs/configuration.md anew
	@.venv/bin/ruff check --fix-only .
	@.venv/bin/ruff format .
	@$(PY) -m synthgen.config.docs

bench: setup ## measure
	@$(PY) -m benchmarks $(ARGS)

soak: setup ## a run against an endpoint that fails at random
	@$(PY) -m benchmarks.soak $(ARGS)

six: setup ## six data sets from one set of completions, and a training step on each
	@$(PY) -m benchmarks.six $(ARGS)

chaos: setup ## run while things break
	@$(PY) -m benchmarks.chaos $(ARGS)

lock: setup ## write the locks anew from pyproject.toml (ARGS=--upgrade moves the pins)
	@requirements/lock.sh $(ARGS)

wheel: setup ## build dist/*.whl and the sdist
	@$(PY) -m build --no-isolation --outdir dist . >/dev/null && ls dist

clean: ## remove caches and build products; runs/ and .venv stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis outputs multirun
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	@rm -rf "$$(readlink -f .venv)" .venv
