# faregate: everything a newcomer types. `make` alone lists the targets.
#
# One virtual environment serves all of them: requirements/dev.txt holds everything that runs, tests or checks the
# project, and requirements/bench.txt is the same set plus the benchmark peers. Both are locked with hashes, so a
# package that was changed after locking is refused. Stamp files inside .venv say what is already installed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter of 3.11 or newer; name another with `make test PYTHON=/path/to/python3.12`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# Arguments for the commands: `make bench NAME=credit ARGS="--json bench-results/credit.json"`.
NAME ?= submit
ARGS ?=

.PHONY: help demo up test check lint types format bench fuzz soak seeds sagas schemas clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "; print "faregate: make TARGET\n"} \
		/^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## Decide 1,000 real applicants on a running system (DEMO_EXIT=1 stops it afterwards)
	@$(BIN)/faregate demo $(if $(DEMO_EXIT),--exit) $(ARGS)

up: $(VENV)/ready ## Start everything and keep it running
	@$(BIN)/faregate up $(ARGS)

test: $(VENV)/ready ## Lint, types, import rules, schema drift, then all tests; one summary
	@$(BIN)/python -m tools.check

check: $(VENV)/ready ## What `test` does before the tests: lint, types, import rules, schema drift
	@$(BIN)/python -m tools.check lint types imports schemas

lint: $(VENV)/ready ## Style: ruff and the project's own rules (tools/lint)
	@$(BIN)/python -m tools.check lint

types: $(VENV)/ready ## Strict types (mypy)
	@$(BIN)/python -m tools.check types

format: $(VENV)/ready ## Rewrite the layout of the code as `lint` wants it
	@$(BIN)/python -m ruff check --fix-only --quiet . && $(BIN)/python -m ruff format .

schemas: $(VENV)/ready ## Write schemas/ anew from the code
	@$(BIN)/python -m faregate.events.schemas
	@$(BIN)/python -m faregate.entrypoints.openapi

soak: $(VENV)/ready ## The tests that take minutes: a rolling restart under traffic, faults on every bus
	@$(BIN)/python -m pytest -m soak $(ARGS)

fuzz: $(VENV)/ready ## Hold a running API to its OpenAPI document with generated requests (ARGS="--max-time 600")
	@$(BIN)/python -m tools.fuzz $(ARGS)

seeds: $(VENV)/ready ## Random histories of the points ledger beside its model (ARGS="--seeds 10000")
	@$(BIN)/python -m tools.ledger_seeds $(ARGS)

sagas: $(VENV)/ready ## Redemptions against model partners under a virtual clock (ARGS="--seeds 10000")
	@$(BIN)/python -m tools.saga_seeds $(ARGS)

bench: $(VENV)/ready-bench $(if $(filter features,$(NAME)),$(VENV)/ready-feast) ## Measure against a peer: NAME=submit, credit, ledger, features, gateway, scale or isolation
	@$(BIN)/faregate bench $(NAME) $(ARGS)

clean: ## Stop this folder's own servers, then remove .venv, caches and .faregate (its data too)
	@if [ -d .faregate ]; then $(MAKE) --silent $(VENV)/ready; $(BIN)/python -m tools.stop_servers; fi
	@echo "· removing .faregate, $(VENV) and caches"
	@rm -rf .faregate $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------- environment

$(BIN)/python:
	@$(if $(PYTHON),:,echo "faregate needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || true)." \
		"Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1)
	@echo "· creating $(VENV) with $$($(PYTHON) --version)"
	@if ! $(PYTHON) -m venv $(VENV); then rm -rf $(VENV); \
		echo "python3 lacks the venv module: install it (Debian and Ubuntu: python3-venv)" >&2; exit 1; fi

# $(call install,LOCKED FILE,PROGRAMS): uv is several times faster; pip does the same where there is none.
define install
	@echo "· installing $$(grep -c '^[a-z].*==' $(1)) locked packages of $(1), once"
	@{ command -v uv >/dev/null && uv pip install --quiet --python $(2)/python --require-hashes -r $(1); } \
		|| $(2)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef

$(VENV)/locked: requirements/dev.txt | $(BIN)/python
	$(call install,$<,$(BIN))
	@touch $@

$(VENV)/ready: pyproject.toml $(VENV)/locked
	@echo "· installing faregate itself, editable"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/ready-bench: requirements/bench.txt $(VENV)/ready
	$(call install,$<,$(BIN))
	@touch $@

# Feast's pins contradict ours: the peer has an environment of its own inside ours.
$(VENV)/ready-feast: requirements/feast.txt $(VENV)/ready
	@$(BIN)/python -m venv $(VENV)/peers/feast
	$(call install,$<,$(VENV)/peers/feast/bin)
	@touch $@
