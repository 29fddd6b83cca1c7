# make demo       the whole way once, on a synthetic MARS: render, train, evaluate, export, serve, query
# make test       the fast tests
# make test-slow  full-size models, kills
# make soak       load and fuzz against a running server
# make test-addons  the bridge to TensorFlow Addons and Keras 2, with both installed (Python 3.11)
# make docs       the guide and the reference, as pages in build/docs/
# make check      lint, format and import order; make format fixes lint and format

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow soak test-addons docs check format clean

demo: $(VENV)/.demo
	$(BIN)/python recipes/demo.py

# In the order of the folders: by xdist's own, the files with a single long test would come last. One process more than cores:
# tests wait for servers and subprocesses.
test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses $$(( $$(nproc) + 1 )) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak

test-addons: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[addons]'
	$(BIN)/python -m pytest tests/addons

docs: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file recipes/guide/mkdocs.yaml

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Python 3.11 to 3.13 are those that TensorFlow has wheels for.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"TensorFlow has packages for Python 3.11 to 3.13; {sys.executable} is Python {v[0]}.{v[1]}. Name another: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serving]'
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serving,jax,test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
