# The whole project from a fresh clone: `make demo`, `make test`, `make bench`. Everything goes into .venv and a cache.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .demo
# Processes of the test suite; each has a Spark session and a broker of its own, 3 GB in all.
WORKERS ?= 2
IN_PROCESSES := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# C1 alone: a demo ends before C2 would pay back.
C1 := LAKEHOUSE_JAVA_OPTIONS="$${LAKEHOUSE_JAVA_OPTIONS--XX:TieredStopAtLevel=1}"

.PHONY: help setup demo test test-exhaustive check combinations bench bench-domains bench-live bench-endurance requirements clean
.DEFAULT_GOAL := help

help:
	@echo "make demo             every pipeline from raw events to gold tables, on the screen"
	@echo "make test             the test suite (less than 20 minutes on two cores)"
	@echo "make test-exhaustive  every combination of source, trigger, sink and mode, 200,000 events of each pipeline, kills (hours)"
	@echo "make check            format, lint, types, direction of imports"
	@echo "make combinations     run the combinations and write docs/combinations.md"
	@echo "make bench            side by side with hand-written pipelines (more than an hour)"
	@echo "make bench-domains    events a second of every pipeline, and the share of each step (half an hour)"
	@echo "make bench-live       rows in gold seconds after they happen, beside hand-written ones (three hours)"
	@echo "make bench-endurance  an hour live: latencies, CPU, memory, files and logs"
	@echo "make requirements     pin requirements-dev.txt from pyproject.toml"
	@echo "make clean            remove what the above created here"

setup: .venv/.ready
.venv/.ready: requirements-dev.txt pyproject.toml
	@PYTHON="$(PYTHON)" sh .ci/setup
	@touch $@

demo: setup
	@rm -rf $(DEMO)
	$(C1) $(BIN)/lakehouse demo --root $(DEMO)

test: setup
	@echo "The suite takes less than 20 minutes on two cores."
	$(BIN)/python -m pytest $(IN_PROCESSES)

test-exhaustive: setup
	LAKEHOUSE_EXHAUSTIVE=1 LAKEHOUSE_KILLS=20 $(BIN)/python -m pytest -rP $(IN_PROCESSES) \
		tests/execution/test_compatibility.py tests/test_recovery.py tests/exhaustive

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

combinations: setup
	LAKEHOUSE_EXHAUSTIVE=1 LAKEHOUSE_WRITE_DOCS=1 $(BIN)/python -m pytest tests/execution/test_compatibility.py

bench: setup
	$(BIN)/python bench/run.py $(ARGUMENTS)

bench-domains: setup
	$(BIN)/python bench/domains.py $(ARGUMENTS)

bench-live: setup
	$(BIN)/python bench/live.py $(ARGUMENTS)

bench-endurance: setup
	$(BIN)/python bench/endurance.py $(ARGUMENTS)

requirements: setup
	$(BIN)/uv pip compile pyproject.toml --extra local --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements" --upgrade \
		--output-file requirements-dev.txt --quiet

clean:
	rm -rf .venv $(DEMO) dist build
