# Everything happens in the project's own environment, .venv, made here on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types unit slow browser bench audit paper clean

demo: $(STAMP)
	$(BIN)/cascjax demo --out demo

test: lint types unit slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

# Most of the time goes into compiling, so XLA is told to optimise little, which halves it all. The
# slow tier, the notebooks and a file run by itself are compiled as for users. Worksteal keeps most
# of a file's tests together, which share what they compile, and both processes end together.
QUICK := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false

unit: $(STAMP) browser
	XLA_FLAGS="$(QUICK) $(XLA_FLAGS)" $(BIN)/pytest -n 2 --dist worksteal

slow: $(STAMP)
	$(BIN)/pytest -n 2 -m slow

# The report is tested in a real browser, Debian's. Who cannot have it skips those tests; CI cannot.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -qq -y --no-install-recommends chromium chromium-driver; \
	else false; fi || echo "chromium cannot be installed: the tests of the report in a browser cannot run"

bench: $(STAMP)
	$(BIN)/python benchmarks/bench.py $(if $(DEVICE),--device "$(DEVICE)")

# The public interface against independent NumPy and SciPy; takes half an hour.
audit: $(STAMP)
	$(BIN)/python -m benchmarks.audit --out docs/audit.md

# Everything on a synthetic dataset shaped like RouterBench; a TABLE of your own in its place.
TABLE ?= --synthetic
paper: $(STAMP)
	for name in table1 table4 noise-grid ablation; do \
	  $(BIN)/python -m benchmarks.paper $$name $(TABLE) --out paper || exit; done
	for name in runtime settings; do \
	  $(BIN)/python -m benchmarks.paper $$name --out paper || exit; done

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo paper
