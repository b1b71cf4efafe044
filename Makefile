# `make demo` shows the whole program, `make test` tests it, `make check` is what a change must pass.
# Each target makes its own virtual environment once, with the versions of constraints.txt.
# Another Python: `make demo PYTHON=python3.12`. A smaller torch without CUDA: see README.md.

PYTHON ?= python3
VENV   ?= .venv

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# every recipe sees the environment's programs first
RUN    := PATH="$(abspath $(BIN)):$$PATH" PYTHONNOUSERSITE=1

.PHONY: help install demo test check bench docs clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' Makefile | expand -t 10

install: $(STAMP)  ## the virtual environment, without running anything

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install "torch==2.13.0" -c constraints.txt
	$(BIN)/python -m pip install -e ".[dev]" -c constraints.txt
	touch $(STAMP)

demo: $(STAMP)  ## render, train, add, generate, infer, check; writes demo-out/report.html
	$(RUN) ebm demo --out demo-out --overwrite

test: $(STAMP)  ## the fast tests, three to five minutes on two cores
	$(RUN) scripts/test

check: $(STAMP)  ## format, lint, types, generated docs, then the fast tests
	$(RUN) scripts/check

bench: $(STAMP)  ## measure again every number in README.md (long)
	$(RUN) scripts/reproduce/bench

docs: $(STAMP)  ## write docs/cli.md from the program's own help
	$(RUN) scripts/docs

clean:  ## remove what make made
	rm -rf $(VENV) demo-out build .pytest_cache .mypy_cache .ruff_cache .hypothesis ebmcli.egg-info
	find ebmcli tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
