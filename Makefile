# What a person types. `make` alone lists it; the work of setting up is in .ci/setup.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev viewer demo test lint format soak bench bench-quick lock clean
BIN := .venv/bin
ARGS ?=
# Tests and demo start hundreds of processes: our modules are compiled at the first, whatever this shell asks for.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv with what the gateway needs (also done by the commands below)
	@.ci/setup runtime

setup-dev: ## The same with the tools for linting, typing and testing
	@.ci/setup dev

viewer: setup ## Fetch the viewer of images (OHIF) by npm, for the demo and for `gateway serve`
	@.ci/setup viewer

demo: setup ## Run a demo region: gateway and three trusts on loopback, until Ctrl-C (ARGS=--check walks the story and ends)
	@$(BIN)/gateway demo $(ARGS)

test: lint ## Check everything: lint, types, import contracts, tests (as CI does)
	@.ci/setup apt
	@.ci/setup viewer
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not soak and not alone"
	$(BIN)/python -m pytest -m alone
else
	$(BIN)/python -m pytest $(ARGS)
endif

lint: setup-dev ## Check layout, types and import contracts only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev ## Lay the code out and mend what ruff can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

soak: setup-dev ## Run the long tests: hours of traffic, long fuzzing
	@.ci/setup apt
	$(BIN)/python -m pytest -m soak --timeout=0 $(ARGS)

bench: setup-dev ## Measure against other implementations side by side, up to 45 minutes
	@.ci/setup apt
	$(BIN)/python -m bench $(ARGS)

bench-quick: setup-dev ## The same with fewer rounds, a few minutes
	@.ci/setup apt
	$(BIN)/python -m bench --quick $(ARGS)

lock: ## Pin the dependencies again (ARGS=--upgrade takes the newest versions)
	@.ci/setup lock $(ARGS)

clean: ## Remove .venv and what the tools left behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov build dist
