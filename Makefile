# The two commands of a fresh machine (git, make, Python 3.11+): `make demo` and `make test`.
# In: pyproject.toml, requirements-dev.lock. Out: .venv, .demo, verdicts. Nothing outside the checkout
# is written but caches (LLM_RECONCILE_CACHE, pip's) and the demo's state folder.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test coverage night programs mistakes lint bench lock pictures reference docs clean

PYTHON ?= python3
UV ?= uv
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
STAMP := .venv/.installed
EXAMPLE := examples/01-quickstart
export QUESTION ?= Why is the sky blue? Answer in one sentence.

help:
	@echo 'make demo       two models behind one address, in .demo/'
	@echo 'make demo-down  stop the demo'
	@echo 'make test       lint and all tests'
	@echo 'make coverage   the tests, with each line noted that any process of ours runs (an hour)'
	@echo 'make night      the tests with every crash point and ten times the dice (hours)'
	@echo 'make mistakes   tries whether tests see what a missing guard leads to (half an hour)'
	@echo 'make programs   the shipped templates before the real LiteLLM, Continue, Open WebUI (500 MB)'
	@echo 'make lint       ruff, mypy, import-linter'
	@echo 'make bench      measure, and write docs/benchmarks.md (about 10 minutes)'
	@echo 'make lock       renew requirements-dev.lock (needs uv)'
	@echo 'make docs       the documents as a site, in site/'
	@echo 'make reference  the pages of docs/reference that are made from the code'
	@echo 'make pictures   the pictures of the README, from a real run (needs tmux and chromium)'
	@echo 'make clean      stop the demo, remove what these made'

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo 'Installing into .venv (a minute or two, once)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	@mkdir -p .demo/desired
	@test -e .demo/desired/quickstart.yaml || cp $(EXAMPLE)/desired/quickstart.yaml .demo/desired/
	@$(BIN)/python $(EXAMPLE)/fetch_models.py .demo/models
	@$(BIN)/llm-reconcile apply -y .demo/desired/quickstart.yaml
	@echo; echo "> $$QUESTION"
	@$(BIN)/python $(EXAMPLE)/ask.py http://127.0.0.1:8888/v1 smollm2 "$$QUESTION"
	@echo; $(BIN)/llm-reconcile status --root .demo
	@echo
	@echo 'Page      http://127.0.0.1:8888/'
	@echo 'API       http://127.0.0.1:8888/v1     models: smollm2 (or chat), tiny'
	@echo 'Alone     http://127.0.0.1:8001/v1     smollm2'
	@echo '          http://127.0.0.1:8002/v1     tiny'
	@echo 'Change    .demo/desired/quickstart.yaml, then `make demo` again'
	@echo 'Stop      make demo-down'

demo-down:
	@if test -d .demo/desired && test -x $(BIN)/llm-reconcile; then $(BIN)/llm-reconcile down -y --root .demo; \
	else echo 'There is no demo here.'; fi

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tests wait as often as they compute: three for two cores.
WORKERS := $$(( $$(nproc) * 3 / 2 ))
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal
# Measures the processes of pytest, which run all of the core; LLM_RECONCILE_MEASURE_ALL=1: what they start too.
MEASURED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage $(PYTEST)

test: lint
	@rm -f .coverage .coverage.*
	$(MEASURED) | tee .venv/pytest.log
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='reconciler/core/*' --fail-under=100 \
	  || { echo 'reconciler/core is not covered in full (branches too), see above'; exit 1; }
	@tail -n 1 .venv/pytest.log

coverage: $(STAMP)
	@rm -f .coverage .coverage.*
	LLM_RECONCILE_MEASURE_ALL=1 $(MEASURED)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=90

bench: $(STAMP)
	$(BIN)/python -m benchmarks --out docs/benchmarks.md

programs: $(STAMP)
	.ci/get-programs
	LLM_RECONCILE_NIGHT=1 $(BIN)/pytest tests/e2e/test_programs.py

night: $(STAMP)
	.ci/get-programs
	HYPOTHESIS=night LLM_RECONCILE_NIGHT=1 $(PYTEST) --timeout 14400

mistakes: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m mistakes -j $$(nproc)

lock:
	printf 'hatchling\neditables\n' | $(UV) pip compile pyproject.toml - --extra standalone --group dev --group docs \
	  --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links --quiet -o requirements-dev.lock

pictures: $(STAMP)
	$(BIN)/python docs/pictures/make.py

reference: $(STAMP)
	$(BIN)/python docs/reference/make.py

docs: reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'Open site/index.html'

clean: demo-down
	rm -rf .venv .demo site .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
