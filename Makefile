# Everything happens in the project's own environment, .venv, made here on first use.
PYTHON ?= python3
DEVICE ?= this machine
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types unit slow bench clean

demo: $(STAMP)
	$(BIN)/cascjax demo --out demo

test: lint types unit slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

unit: $(STAMP)
	$(BIN)/pytest -n 2

slow: $(STAMP)
	$(BIN)/pytest -n 2 -m slow

bench: $(STAMP)
	mkdir -p .benchmarks
	$(BIN)/pytest -o addopts= benchmarks --benchmark-only --benchmark-json .benchmarks/suite.json
	$(BIN)/python benchmarks/cold.py --json .benchmarks/cold.json
	$(BIN)/python benchmarks/results.py --device "$(DEVICE)" .benchmarks/suite.json .benchmarks/cold.json

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo
