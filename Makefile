# Each target works as the first command after a clone, with Python 3.11 or newer, its pip, and make.
# Everything is installed into .venv, and again only when what it depends on changes.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
JAVASCRIPT := examples/javascript
PACKAGES := $(JAVASCRIPT)/node_modules/.package-lock.json
NPM_INSTALL := npm install --silent --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=10000
INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check -c constraints.txt

BENCHES := pace limit charges calls cancellations hostile extract loop_lag inputs scale hostgate redisgate kills budget ledger resume job_memory progress gallery web tracing
PEERS := $(VENV)/.peers
DATASETS := $(VENV)/.datasets
RAY := $(VENV)/.ray
DOCS := $(VENV)/.docs
# More than there are cores: tests wait for servers, clocks and other processes half of their time.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(5, 2 * (os.cpu_count() or 1) + 1))')
SUITE = -m pytest -q --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
TIME ?= 60
RUNS ?= 0
EXAMPLES ?= 10000
SEED ?= 1
SEEDS ?= 50
TIMES ?= 10
MINUTES ?= 10
# The suite starts hundreds of processes: where no compiled code may be kept, each compiles the whole package.
unexport PYTHONDONTWRITEBYTECODE
EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)

.PHONY: demo test test-httpx2 mutants steady coverage matrix test-datasets test-ray lint fuzz kill-points nemesis soak ledger-machine wheel docs screenshots bench bench-imports bench-peers bench-ray $(BENCHES:%=bench-%) clean

demo: $(VENV)/.demo ## 24 pictures from a local Nebula Block, into demo/images; demo/gallery/index.html shows them
	$(BIN)/nebula-async bulk examples/prompts.jsonl --out demo --emulator

test: $(VENV)/.dev $(PACKAGES) ## the whole suite, its files in up to five processes
	$(BIN)/python $(SUITE)

test-httpx2: $(VENV)/.dev ## the rows of the wire, with httpx2 in place of httpx
	PYTHONPATH=tests $(BIN)/python $(SUITE) -p early_alias \
		tests/engine tests/faults tests/test_inference_client.py

test-datasets: $(DATASETS)/.installed ## jobs and exports, read by Hugging Face datasets and webdataset, in an environment of their own
	$(DATASETS)/bin/python -m pytest -q -W ignore tests/heavy/read_back.py

test-ray: $(RAY)/.installed ## pictures for the rows of Ray datasets, on a Ray of this machine, in an environment of their own
	RAY_USAGE_STATS_ENABLED=0 timeout --kill-after=10 300 $(RAY)/bin/python -m pytest -q tests/heavy/ray_cluster.py
	RAY_USAGE_STATS_ENABLED=0 timeout --kill-after=10 300 $(RAY)/bin/python -m pytest -q tests/docs/test_docs_blocks.py -k ray.md

lint: $(VENV)/.dev ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fuzz: $(VENV)/.fuzz ## a search for bytes that a parser reads wrongly, TIME=60 seconds for all; or TARGET=headers RUNS=1000000
	$(BIN)/python tests/fuzz/search.py $(TARGET) --folder $(VENV)/fuzz --seconds $(TIME) --runs $(RUNS)

kill-points: $(VENV)/.dev ## a job killed at each of its system calls, and at each of its recovery's: a table, and exit 1 if anything is lost
	$(BIN)/python tests/durability/kill_points.py

nemesis: $(VENV)/.dev ## jobs to which everything is done at once, from SEEDS=50 seeds: a row for each, and exit 1 if anything does not hold
	$(BIN)/python tests/soak/soak.py --seed $(SEED) --seeds $(SEEDS)

soak: $(VENV)/.dev ## the same for MINUTES=10, beside a process whose memory and descriptors must stay flat
	$(BIN)/python tests/soak/soak.py --seed $(SEED) --minutes $(MINUTES)

ledger-machine: $(VENV)/.dev ## a search for orders of events, kills among them, after which a ledger is wrong: EXAMPLES=10000 of them
	LEDGER_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q tests/bulk/test_ledger_machine.py

mutants: $(VENV)/.dev ## small wrong changes of what decides about money: exit 1 if one is noticed by no test, and README.md says not why
	$(BIN)/python tests/mutants/run.py $(MUTANTS)

steady: $(VENV)/.dev ## the whole suite TIMES=10, each run noted, so that it goes on where it was stopped: exit 1 if a test fails in any
	$(BIN)/python tests/steadiness/steady.py --folder $(VENV)/steady --runs $(TIMES) -- $(SUITE)

coverage: $(VENV)/.dev ## which branches the suite takes: all of what decides about money, 95 % of the package
	PYTEST_XDIST_AUTO_NUM_WORKERS=$(WORKERS) $(BIN)/python tests/branches/run.py $(TESTS)

matrix: $(VENV)/.dev ## the suite's core on other Pythons, libraries, event loops and machines, in environments of their own: a table
	$(BIN)/python tests/matrix/run.py $(CELLS)

wheel: $(VENV)/.dev ## dist/*.whl and dist/*.tar.gz: the same bytes wherever they are built
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m hatchling build -d dist

docs: $(DOCS)/.installed ## the pages of docs/ and the reference, into dist/docs; fails where a link leads nowhere
	$(DOCS)/bin/python docs/build.py

screenshots: $(VENV)/.dev ## docs/images: a run in a terminal, and its gallery in Chromium
	$(BIN)/python docs/screenshots.py

bench: $(BENCHES:%=bench-%) bench-imports bench-peers bench-ray ## all of them, for about an hour

bench-imports: ## import time beside openai's, in an environment of its own
	$(PYTHON) benchmarks/imports.py

bench-peers: $(PEERS)/.installed ## pictures from the same server beside other clients, in an environment of their own
	$(PEERS)/bin/python benchmarks/peers.py

bench-ray: $(RAY)/.installed ## pictures for the rows of a dataset beside Ray's own HTTP processor, in an environment of their own
	$(RAY)/bin/python benchmarks/ray.py

$(BENCHES:%=bench-%): bench-%: $(VENV)/.dev ## what benchmarks/README.md promises: prints its figures, fails when they are missed
	$(BIN)/python benchmarks/$*.py

clean:
	rm -rf $(VENV) dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf $(JAVASCRIPT)/node_modules $(JAVASCRIPT)/dist $(JAVASCRIPT)/schema.d.ts

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say where it is: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) pip -e '.[cli,emulator]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) pip -e '.[all,dev]'
	@touch $@ $(VENV)/.demo

# Without the constraints: one peer's command line needs an older library of command lines than ours.
$(PEERS)/.installed: pyproject.toml benchmarks/peers-requirements.txt | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(PEERS)
	$(PYTHON) -m pip --python $(PEERS)/bin/python install --quiet --disable-pip-version-check \
		-r benchmarks/peers-requirements.txt -e .
	@touch $@

# Without the constraints, which know nothing of these libraries (423 MB) and of what they want.
$(DATASETS)/.installed: pyproject.toml tests/heavy/requirements.txt | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(DATASETS)
	$(PYTHON) -m pip --python $(DATASETS)/bin/python install --quiet --disable-pip-version-check \
		-r tests/heavy/requirements.txt -e '.[cli,emulator]'
	@touch $@

# Without the constraints, which know nothing of Ray.
$(RAY)/.installed: pyproject.toml tests/heavy/ray-requirements.txt | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(RAY)
	$(PYTHON) -m pip --python $(RAY)/bin/python install --quiet --disable-pip-version-check \
		-r tests/heavy/ray-requirements.txt -e '.[cli,emulator,images,redis,ray]'
	@touch $@

# Without the constraints, which know nothing of these libraries.
$(DOCS)/.installed: docs/requirements.txt | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(DOCS)
	$(PYTHON) -m pip --python $(DOCS)/bin/python install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@

# Atheris has wheels for Linux only, so it is no part of the development extra.
$(VENV)/.fuzz: $(VENV)/.dev
	$(INSTALL) atheris
	@touch $@

# Only the JavaScript sample's test needs npm, and is skipped without it: that must not keep anyone from the others.
$(PACKAGES): $(JAVASCRIPT)/package.json $(JAVASCRIPT)/.npmrc
	@if ! command -v npm >/dev/null; then echo "npm is not on this machine: the JavaScript test will be skipped"; \
	elif $(NPM_INSTALL) --prefix $(JAVASCRIPT); then touch $@; \
	else echo "'npm install' failed in $(JAVASCRIPT): the JavaScript test will be skipped"; fi
