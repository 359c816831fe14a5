# make demo: install into .venv, teach a small model who it is, publish it to Ollama, show what changed.
# make test: everything that must pass before a change is kept. .ci/run calls exactly this.
# make test-loop: twenty facts through proxy, two retrain cycles and Ollama; prints what was known when.
# PIP_ARGS goes to pip, e.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes: each test uses one thread, and the largest needs 2.5 GB.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-loop check install install-dev clean

demo: $(VENV)/.installed
	$(BIN)/ft2ollama demo $(ARGS)

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

test: check
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-loop: $(VENV)/.installed-dev
	FT2OLLAMA_FULL_LOOP=1 $(BIN)/python -m pytest -s -k twenty $(ARGS) tests/loop/test_freshness.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -e . -c constraints.txt $(PIP_ARGS)
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' -c constraints.txt $(PIP_ARGS)
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist build
