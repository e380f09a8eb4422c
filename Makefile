# Everything runs in .venv, built from pyproject.toml and the versions in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow bench docs publish lint clean

DEMO := outputs/demo
SITE := outputs/sites

demo: $(READY)  ## train without and with guidance on eyes with a shortcut, and show both side by side
	rm -rf $(DEMO)
	$(BIN)/fundusnet train experiment=synthetic_shortcut model.loss.weight=0 name=without run_dir=$(DEMO)/without
	$(BIN)/fundusnet train experiment=synthetic_shortcut name=with run_dir=$(DEMO)/with
	$(BIN)/fundusnet report runs=[$(DEMO)/without,$(DEMO)/with] output=$(DEMO)/report.html

# A process for each core, and one thread in each: small networks gain nothing from more.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

test: $(READY)  ## the default tests: minutes on two cores
	$(TEST)

test-slow: $(READY)  ## the tests that take longer
	$(TEST) -m slow

bench: $(READY)  ## docs/benchmarks.md, in half an hour; ONLY=training_step runs one
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m benchmarks $(ONLY)

docs: $(READY)  ## the site, in outputs/site
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --clean --strict --config-file mkdocs.yml

publish: docs  ## the site as one version of several, in the folder SITE
	$(BIN)/python docs/publish.py $(SITE)

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
