# make demo      show the system at work, all parties on this machine (ARGS="..." is handed on)
# make test      check, and all tests
# make help      the rest
#
# Needs python3 (3.11 or newer) with its venv module, and make. Everything else is installed into .venv, from lock files with
# hashes; a second run installs nothing.

SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Test processes: one more than cores, as many tests wait for something most of their time.
WORKERS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 1) + 1)))
# Each has a part of the tests in their order, so that few have to set up what a file's tests share; who is done takes of
# what others have left.
PYTEST  := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# What one process compiles as it starts, the next has: the tests start hundreds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test suite check soak conformance tables vectors versions bench switches chaos siege floods fmt lock clean

help:           ## this list
	@grep -E '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## */\t/' | expand -t 16

demo: $(VENV)/.runtime  ## the system at work: server, gateway and devices on this machine
	@$(BIN)/cpns demo $(ARGS)

test: $(VENV)/.dev      ## check and all tests, beside each other (ARGS="-k name" picks)
	@$(MAKE) --no-print-directory -j2 --output-sync=target check suite

# With its plus it says at once what it does; what the check says comes in one piece.
suite: $(VENV)/.dev
	+$(PYTEST) --durations=10 $(ARGS)

soak: $(VENV)/.dev      ## all cases of the tests that have some of many; examples drawn anew; a race N=200 times
	CPNS_SOAK=1 $(PYTEST) --timeout=3600 -m "soak or hypothesis" $(ARGS)
	$(BIN)/python -m tests.support.repeat tests/integration/test_processes.py::test_a_group_across_two_processes \
		--times $(or $(N),200) --busy 2

check: $(VENV)/.dev     ## format, lint, types, walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# One word: apart, a report that is there already reads as the path of a test, and ours are not loaded.
conformance: $(VENV)/.dev       ## run the tests of the clauses; table, and build/conformance.json
	@mkdir -p build
	$(PYTEST) -m req --conformance=build/conformance.json $(ARGS)

tables: $(VENV)/.dev    ## write grammar, tables of docs/protocol.md and of a small device from the messages; docs/states.md
	@$(BIN)/python -m tests.support.tables

vectors: $(VENV)/.dev   ## check known answers: FILE=path, or those of tests/vectors
	@$(BIN)/python -m tests.vectors.check $(FILE)

versions: $(VENV)/.dev  ## PNE, PN GW and server of this source, of the commit before and of a later one, in 18 mixes
	@$(BIN)/python -m tests.support.versions

bench: $(VENV)/.dev     ## measure, then beside other servers (ARGS is handed on, such as --quick)
	@$(BIN)/python -m bench $(ARGS)
	@$(BIN)/python -m bench.peers $(ARGS)

switches: $(VENV)/.dev  ## a device that changes its mode N=1000 times at random moments under traffic
	@$(BIN)/python -m tests.support.switches $(or $(N),1000)

chaos: $(VENV)/.dev     ## kill -9 of server processes, PostgreSQL and NATS under load, for N=300 seconds
	@$(BIN)/python -m tests.support.chaos $(or $(N),300)

siege: $(VENV)/.dev     ## what attackers do to the others: a table, N=10 seconds for each row
	@$(BIN)/python -m tests.support.siege $(or $(N),10) $(ARGS)
	@$(BIN)/python -m tests.support.siege.uniform

floods: $(VENV)/.dev    ## one host without a key at 1 MB/s, then faster, until others notice too much: a table (ARGS="PAN" picks)
	@$(BIN)/python -m tests.support.siege.floods $(ARGS)

fmt: $(VENV)/.dev       ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:           ## make the lock files anew from pyproject.toml (needs the network)
	@test -x build/uv/bin/uv || { $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install --quiet uv; }
	build/uv/bin/uv pip compile pyproject.toml --group build -o requirements.lock $(LOCK)
	build/uv/bin/uv pip compile pyproject.toml --group dev --extra postgres --extra nats -c requirements.lock -o requirements-dev.lock $(LOCK)
	! grep -nE 'https?:|file:' requirements.lock requirements-dev.lock

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

clean:          ## remove everything that was made, .venv too
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is newer than what it was made from, or is made again. They lie in .venv and go with it.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "cpns needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "Python's venv module is missing; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made requirements.lock pyproject.toml
	@echo "installing what requirements.lock names, then cpns itself"
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@echo "installing what requirements-dev.lock names"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@
