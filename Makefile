# Every verb sets up .venv by itself. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: setup fmt check test test-slow bench docs demo clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

fmt: setup
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

check: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_floors.py tests/test_surface.py

test: setup
	$(BIN)/pytest -n $(WORKERS) -m "not slow"

test-slow: setup
	$(BIN)/pytest -n $(WORKERS) -m slow

bench: setup
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/nonlocal_memory.py
	$(BIN)/python benchmarks/prediction.py

docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/make_mechanisms.py
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_networks.py
	$(BIN)/python docs/make_when_not.py
	$(BIN)/sphinx-build -q -W docs docs/_build

demo: setup
	$(BIN)/foveate demo

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
