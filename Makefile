# What people type. `make demo` and `make test` work on a fresh clone: they make .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint bench sanitize clean

demo: $(INSTALLED)
	$(BIN)/python -m pymasr.demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/python -m ruff check .

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.kernels

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache $(VENV)
	find pymasr -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
