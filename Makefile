# The targets people use; `make help` lists them. Every target that needs Python makes .venv first.
# The first that runs and fits: a version manager's shim may stand on the PATH and not run.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Nothing of this project phones home, whatever the libraries' defaults are.
export DO_NOT_TRACK := 1
export FEAST_USAGE := False
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.DEFAULT_GOAL := help
.PHONY: help install demo test up check format bench lock clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with the locked dependencies

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "daima needs Python 3.11 or 3.12, and found neither on the PATH; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else f"daima needs Python 3.11 or 3.12, $(PYTHON) is {sys.version.split()[0]}; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)")'
	@echo "Installing the locked dependencies into $(VENV) (about two minutes) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python infra/install.py
	@touch $@

demo: $(STAMP) ## The main job, end to end: events in, predictions out
	@$(BIN)/daima demo

test: $(STAMP) ## Every test, in parallel
	@$(BIN)/pytest -n auto --dist loadgroup

up: $(STAMP) ## The local stack with live simulated traffic, until Ctrl-C
	@$(BIN)/daima up

check: $(STAMP) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Format and fix what ruff can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(STAMP) ## The benchmarks; each prints one JSON object as its last line
	@for name in simulator engine pipeline freshness backfill recovery kill differential replay globo \
	  online_store serving "serving --soak" weibull pit retraining card_fraud durations models \
	  nearest embeddings embedding_clicks embedding_value embedding_inputs; do \
	  echo "== tests.benchmarks.$$name"; $(BIN)/python -m tests.benchmarks.$$name --json || exit 1; done

lock: ## Resolve pyproject.toml into requirements.lock (needs uv on the PATH)
	@echo "# Locked dependencies of daima (Python 3.11 and 3.12, Linux and macOS); \`make lock\` writes this file anew." > requirements.new
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet \
	  --python-version 3.11 --extra dev pyproject.toml >> requirements.new
	@mv requirements.new requirements.lock

clean: ## Remove .venv, caches and the local data
	rm -rf $(VENV) .daima .ruff_cache .mypy_cache .pytest_cache .hypothesis build dist
