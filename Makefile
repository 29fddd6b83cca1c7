# make demo       the whole way once, on a synthetic MARS: render, train, evaluate, export, serve, query
# make test       the fast tests
# make test-slow  full-size models, kills
# make soak       load and fuzz against a running server
# make check      ruff alone; make format mends what it can

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow soak check format clean

demo: $(VENV)/.demo
	$(BIN)/python recipes/demo.py

# In the order of the folders: by xdist's own, the files with a single long test would come last.
test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"kreid needs Python 3.11 or later; this is {sys.version.split()[0]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serving]'
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serving,jax,test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
