# The whole project from a fresh clone: `make demo`, `make test`, `make bench`. Everything goes into .venv and a cache.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .demo
# Java's quick compiler alone: a demo is over (in three quarters of the time) before what the other compiles would pay.
QUICK := LAKEHOUSE_JAVA_OPTIONS="$${LAKEHOUSE_JAVA_OPTIONS--XX:TieredStopAtLevel=1}"

.PHONY: help setup demo test check combinations bench requirements clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          from raw events to gold tables, on the screen"
	@echo "make test          the whole test suite"
	@echo "make check         format, lint, types, direction of imports"
	@echo "make combinations  run every source, trigger, sink and mode, and write docs/combinations.md"
	@echo "make bench         side by side with hand-written pipelines (more than an hour)"
	@echo "make requirements  pin requirements-dev.txt anew from pyproject.toml"
	@echo "make clean         remove what the above made here"

setup: .venv/.ready
.venv/.ready: requirements-dev.txt pyproject.toml
	@PYTHON="$(PYTHON)" sh .ci/setup
	@touch $@

demo: setup
	@rm -rf $(DEMO)
	$(QUICK) $(BIN)/lakehouse run weather --source generator --option numRows=60000 --root $(DEMO)
	$(QUICK) $(BIN)/lakehouse show weather --rows 3 --root $(DEMO)

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

combinations: setup
	LAKEHOUSE_WRITE_DOCS=1 $(BIN)/python -m pytest tests/test_combinations.py

bench: setup
	$(BIN)/python bench/run.py $(ARGUMENTS)

requirements: setup
	$(BIN)/uv pip compile pyproject.toml --extra local --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements" --upgrade \
		--output-file requirements-dev.txt --quiet

clean:
	rm -rf .venv $(DEMO) dist build
