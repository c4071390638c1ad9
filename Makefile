# The two commands of the README are `make demo` and `make test`; both make the environment first.
# `make setup PYTHON=python3.12` takes another Python.

PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint clean

help:
	@echo "make setup   a .venv with mien, a face tracker and the checkers (done once, quick afterwards)"
	@echo "make demo    a face through a real WebRTC connection on loopback: demo.mp4, demo.png and what it cost"
	@echo "             (make demo ARGS='--input clip.mp4' takes your own clip, '--input camera' your camera)"
	@echo "make test    formatter, linter, type checker and tests, with both face trackers"
	@echo "make lint    the first three"
	@echo "make clean   remove the environments and everything that was built"

setup:
	@$(PYTHON) scripts/setup.py </dev/null

demo: setup
	@$(BIN)/mien demo $(ARGS) </dev/null

# All four run, so that one run shows everything that is wrong.
test:
	@$(PYTHON) scripts/setup.py --both </dev/null
	@status=0; \
	for step in "ruff format --check ." "ruff check ." "mypy" "pytest -rs $(ARGS)"; do \
		echo "==> $$step"; $(BIN)/$$step </dev/null || status=1; \
	done; exit $$status

lint: setup
	@status=0; \
	for step in "ruff format --check ." "ruff check ." "mypy"; do \
		echo "==> $$step"; $(BIN)/$$step </dev/null || status=1; \
	done; exit $$status

clean:
	rm -rf .venv .venv-face-mesh build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-out \
		web/node_modules web/dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
