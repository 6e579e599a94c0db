# Each target works as the first command after a clone, with Python 3.11 or newer, its pip, and make.
# Everything is installed into .venv, and again only when what it depends on changes.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint wheel bench-imports clean

demo: $(VENV)/.demo ## 24 pictures from a local Nebula Block, into demo/images
	$(BIN)/nebula-async bulk examples/prompts.jsonl --out demo --emulator

test: $(VENV)/.dev ## the whole suite
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

wheel: $(VENV)/.dev ## dist/*.whl
	$(PYTHON) -m pip --python $(BIN)/python wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

bench-imports: ## import time beside openai's, in an environment of its own
	$(PYTHON) benchmarks/imports.py

clean:
	rm -rf $(VENV) dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[cli,emulator]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[cli,emulator,images,dev]'
	@touch $@ $(VENV)/.demo
