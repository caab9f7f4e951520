# `make run` and `make test` need Python 3.11 or newer and nothing else: each makes .venv from the
# hashed lock when the lock has changed, and goes.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $$name && break; done)
BIN := .venv/bin
TAGS := .venv-payi-tags
NODE := .venv-node

# A set-up is keyed on what it was made from, not on when.
key = $(shell cat pyproject.toml $(1) | cksum | cut -d ' ' -f 1)
RUN := .venv/.run-$(call key,requirements.txt)
DEV := .venv/.dev-$(call key,requirements-dev.txt)
PAYI := $(TAGS)/.ready-$(call key,requirements-payi-tags.txt)
# Clients that are Node programs, where there is Node; elsewhere their tests say that there is none.
PACKAGES := tests/acceptance/node
NPM := $(shell command -v node >/dev/null && command -v npm)
CLIENTS := $(if $(NPM),$(NODE)/.ready-$(shell cat $(PACKAGES)/*.json | cksum | cut -d ' ' -f 1))

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(RUN) ## start the service, with its own PostgreSQL and Valkey if none is configured
	@exec $(BIN)/python -m metering serve

.PHONY: demo
demo: $(RUN) ## start it against a stand-in provider and make a few calls
	@exec $(BIN)/python -m tests.standin.demo

.PHONY: test
test: $(DEV) $(PAYI) $(CLIENTS) ## every test, at a size fit for CI; ARGS="-k name" for some
	@$(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadfile)

.PHONY: check
check: export COVERAGE_FILE := .venv/.coverage
check: $(DEV) ## formatting, lint, types; that tests take every branch of pricing
	@echo "Checking formatting, lint and types ..."
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python -m mypy
	@echo "Checking that the tests of pricing take every branch ..."
	@rm -f $(COVERAGE_FILE)*
	@$(BIN)/python -m coverage run --source pricing -m pytest -qq tests/pricing \
		--ignore tests/pricing/test_decimal.py --ignore tests/pricing/test_oracle.py
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --fail-under 100

.PHONY: format
format: $(DEV) ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(DEV) ## requests per second beside nginx, in one run
	@exec $(BIN)/python -m tests.bench $(ARGS)

.PHONY: bench-prices
bench-prices: $(DEV) ## microseconds to price a call, beside genai-prices, in one run
	@exec $(BIN)/python -m tests.bench.prices

.PHONY: bench-keys
bench-keys: $(DEV) ## microseconds to know who calls, beside the whole call; and what share that is
	@exec $(BIN)/python -m tests.bench.keys $(ARGS)

.PHONY: bench-scripts
bench-scripts: $(DEV) ## microseconds of the scripts that hold and settle a call, beside a plain HSET
	@exec $(BIN)/python -m tests.bench.scripts $(ARGS)

.PHONY: races
races: $(DEV) ## by how much limits are overrun, and who is refused wrongly, at 1 to 1000 calls at once
	@exec $(BIN)/python -m tests.races $(ARGS)

.PHONY: acceptance
acceptance: $(DEV) $(PAYI) $(CLIENTS) ## the real service, driven by the real client packages
	@$(BIN)/python -m pytest -m acceptance $(ARGS)

.PHONY: payi-tags
payi-tags: $(PAYI) ## the second environment, with the last payi that took request_tags

.PHONY: chaos
chaos: $(DEV) ## kill -9 under load, at full size
	@XPROXY_TEST_SIZE=full $(BIN)/python -m pytest -m chaos --timeout 1800 $(ARGS)

.PHONY: machine
machine: $(DEV) ## the rules beside the scripts, 100,000 steps; and faults that must be found
	@XPROXY_TEST_SIZE=full $(BIN)/python -m pytest tests/ledger/test_twin.py \
		tests/ledger/test_planted.py -s --timeout 3600 $(ARGS)

.PHONY: soak
soak: $(DEV) ## the slow tests, for an hour or so
	@XPROXY_TEST_SIZE=soak $(BIN)/python -m pytest -m "slow or chaos" --timeout 7200 $(ARGS)

.PHONY: pricing-update
pricing-update: $(DEV) ## append new prices from their sources; ARGS="--accept openai/gpt-4o"
	@$(BIN)/python -m pricing.update $(ARGS)

.PHONY: pricing-check
pricing-check: $(DEV) ## validate the catalogue; where its sources disagree
	@$(BIN)/python -m pricing.update --check

.PHONY: pricing-diff
pricing-diff: $(DEV) ## what pricing-update would change: old, new, percent
	@$(BIN)/python -m pricing.update --diff $(ARGS)

.PHONY: pricing-load
pricing-load: $(RUN) ## put the catalogue's prices in force in the running service; ARGS="--dry-run"
	@$(BIN)/python -m metering prices load $(ARGS)

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --only-binary :all: \
	--python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links $(ARGS)

.PHONY: lock
lock: $(DEV) ## pin the requirements anew; ARGS=--upgrade takes newer versions
	@$(COMPILE) --group build pyproject.toml -o requirements.txt
	@$(COMPILE) --group build --group test --group check --group lock -c requirements.txt \
		pyproject.toml -o requirements-dev.txt
	@$(COMPILE) --group payi-tags -o requirements-payi-tags.txt
	@$(if $(NPM),npm install --package-lock-only --prefix $(PACKAGES))

.PHONY: clean
clean: ## remove environments and caches; the data in .xproxy stays
	@rm -rf .venv $(TAGS) $(NODE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build dist
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# venv DIRECTORY: an empty environment, unless a working one is there.
define venv
	@test -n "$(PYTHON)" || { echo "xproxy needs Python 3.11 or newer:" \
		"apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make" \
		"environments: apt-get install" \
		"python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
		echo "Making $(1) with $$($(PYTHON) --version) ..."; $(PYTHON) -m venv --clear $(1); }
endef

# install DIRECTORY LOCK: exactly what the lock says, checked by its hashes.
define install
	@echo "Installing $$(grep -c '^[a-z].*==' $(2)) packages from $(2), once ..."
	@$(1)/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
		--require-hashes --only-binary :all: -r $(2) 2>&1 | awk \
		'/^(Collecting|Processing) / { sub(".*/", "", $$2); printf "  %3d %s\n", ++n, $$2 } \
		 /^Installing collected/ { print "  unpacking ..." } \
		 /^ERROR/ { failed = 1 } \
		 failed || /Retrying/ { print } { fflush() } END { exit failed }'
endef

# The project itself, editable: gives $(BIN)/xproxy. Needs no network.
define editable
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-input --no-deps \
		--no-build-isolation --no-index --editable .
endef

$(RUN):
	$(call venv,.venv)
	$(call install,.venv,requirements.txt)
	$(call editable)
	@touch $@

$(DEV):
	$(call venv,.venv)
	$(call install,.venv,requirements-dev.txt)
	$(call editable)
	@touch $@ $(RUN)

$(PAYI):
	$(call venv,$(TAGS))
	$(call install,$(TAGS),requirements-payi-tags.txt)
	@touch $@

# Without a registry of npm's the tests go on: those that miss these packages say so.
$(CLIENTS):
	@rm -rf $(NODE) && mkdir $(NODE)
	@cp $(PACKAGES)/.npmrc $(PACKAGES)/*.json $(NODE)
	@echo "Installing $$(grep -c '"integrity"' $(NODE)/package-lock.json) packages for Node" \
		"from $(PACKAGES)/package-lock.json, once ..."
	@if npm ci --prefix $(NODE) >/dev/null; then touch $@; \
		else echo "  npm could not: tests that need them will be skipped"; fi
