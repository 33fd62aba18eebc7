# Everything a newcomer needs; `make` alone lists it. Long lines live in scripts/.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install up down test check bench chaos clients lock docs clean

BIN := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '%-14s %s\n' "$$target" "$$text"; done

install: .venv/.core ## create .venv and install Fleetgate with its built-in engine

up: .venv/.core ## start the gateway in the foreground (DETACH=1: in the background, returns when ready)
	@DETACH='$(DETACH)' scripts/up

down: ## stop what `make up DETACH=1` started
	@scripts/down

test: .venv/.dev ## run the tests (ARGS='tests/test_units.py -x' for some of them)
	@scripts/test $(ARGS)

check: .venv/.dev ## lint, formatting, types and the rules of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/.dev ## measure requests per second, cost per chunk and memory
	$(BIN)/python -m bench $(ARGS)

chaos: .venv/.dev ## show what is promised under faults (ARGS=kill, budget, outage or resume)
	$(BIN)/python -m chaos $(ARGS)

clients: .venv/.dev ## run Codex and Claude Code through a gateway (installs them from npm into .clients)
	@scripts/clients $(ARGS)

lock: ## pin all dependencies again, with hashes (needs uv; UPGRADE=1 takes newer versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

docs: .venv/.dev ## write the generated pages of docs/reference again
	$(BIN)/python scripts/docs.py

clean: ## remove .venv and everything made by tools
	@scripts/clean

.venv/.core: requirements/core.txt pyproject.toml scripts/install
	@scripts/install core

.venv/.dev: requirements/dev.txt requirements/core.txt pyproject.toml scripts/install
	@scripts/install dev
