# `make help` lists the targets. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CODE   := fleet resources ops assets sensors platform_defs sdk/stateroom_agent
# Without bytecode every process of the platform recompiles Dagster: three times slower to start.
unexport PYTHONDONTWRITEBYTECODE
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml sdk/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) \
	  else "Python %d.%d found; 3.11 to 3.13 needed. Try: make PYTHON=python3.12 ..." % v)'
	@echo "Installing into $(VENV) (about a minute, once) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --editable ./sdk --editable '.[dev]'
	@$(BIN)/python -m compileall -q $(CODE)
	@touch $@

.PHONY: install
install: $(STAMP)  ## Create the environment (.venv), pinned by constraints.txt

.PHONY: up
up: $(STAMP)  ## Start the local fleet and the Dagster UI; Ctrl-C stops everything
	@exec $(BIN)/stateroom up

.PHONY: down
down: $(STAMP)  ## Stop what `make up` started, from another terminal
	@$(BIN)/stateroom down

.PHONY: test
test: $(STAMP)  ## Run the tests (9 to 13 minutes on 2 cores)
	@$(BIN)/pytest -m "not long" -n 2 --dist worksteal

.PHONY: test-all
test-all: $(STAMP)  ## Run the tests, also the long ones, each property with all its examples
	@$(BIN)/pytest -n 2 --dist worksteal --hypothesis-profile=thorough

.PHONY: check check_style check_types check_imports
check: $(STAMP)  ## Lint, format, types, import contracts: all at once, and all that is wrong
	@$(MAKE) --no-print-directory --keep-going --jobs=3 check_types check_imports check_style
check_style: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
check_types: $(STAMP)
	@$(BIN)/mypy
check_imports: $(STAMP)
	@$(BIN)/lint-imports

.PHONY: bench
bench: $(STAMP)  ## Measure: each script prints figures and ratios
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

.PHONY: clean
clean:  ## Remove the environment, the caches and the state folder (asks nothing)
	@if [ -x $(BIN)/stateroom ]; then $(BIN)/stateroom down; fi
	rm -rf $(VENV) state .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
