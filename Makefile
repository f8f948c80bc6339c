# Everything from a clone, with Python 3.11 or newer and make. The virtual environment is this Makefile's own.
#   make PYTHON=python3.12 test      another interpreter
#   make test ARGS="-k windows -x"   more arguments for what is run
#   make test WORKERS=0              one test after the other, in one process

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
CHAOS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PROJECT := pyproject.toml constraints.txt
# What waits for brokers goes first: at the end the quick ones fill up. A file's tests stay in one process.
TESTS ?= $(wildcard $(addprefix tests/,faults integration property unit docs fuzz)) msemon
WORKERS ?= 3
IMAGE := deploy/docker
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --constraint constraints.txt --custom-compile-command "make lock"
SCRIPTS := $(wildcard benchmarks/*.py deploy/grafana/source/*.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-deps check lock sbom bench soak fuzz clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: $(VENV)/.demo ## the whole product on this machine: broker, simulated models, daemon (ARGS="--duration 60")
	@$(BIN)/msemon demo $(ARGS)

test: $(VENV)/.dev ## all tests; those that need more than Python are listed where they can't run
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS) $(ARGS) </dev/null

test-deps: $(VENV)/.dev ## installs that rest where it may: Java, Maven, Prometheus, Alertmanager, systemd, Chromium (Debian), Apache Kafka (Maven), Helm (pip)
	@PYTHONPATH=tests $(BIN)/python -m support.install </dev/null

check: $(VENV)/.dev ## lint, types, layers, known weaknesses of the image's dependencies
	$(BIN)/ruff check .
	$(BIN)/mypy msemon tests $(SCRIPTS)
	@$(BIN)/lint-imports --no-logo
	@PYTHONPATH=tests $(BIN)/python -m support.audit </dev/null

lock: $(VENV)/.dev ## renews the image's dependencies and their hashes from pyproject.toml and constraints.txt
	@$(COMPILE) --extra librdkafka --extra avro --extra protobuf --output-file $(IMAGE)/requirements.txt pyproject.toml
	@echo hatchling | $(COMPILE) --output-file $(IMAGE)/build-requirements.txt -

sbom: $(VENV)/.dev ## the image's Python packages with their licenses, as CycloneDX: dist/msemon.cdx.json
	@rm -rf dist/sbom && mkdir -p dist && $(PYTHON) -m venv --without-pip dist/sbom
	@$(PIP) --python dist/sbom/bin/python install --quiet --require-hashes --requirement $(IMAGE)/requirements.txt </dev/null
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible --of JSON --output-file dist/msemon.cdx.json dist/sbom/bin/python
	@rm -rf dist/sbom
	@echo "dist/msemon.cdx.json"

bench: $(VENV)/.dev ## all benchmarks, about 20 minutes: writes benchmarks/RESULTS.md
	@$(BIN)/python benchmarks/bench.py $(ARGS)

soak: $(VENV)/.dev ## millions of events: one daemon's memory watched, then replicas that are killed all the time
	@$(BIN)/python benchmarks/soak.py $(ARGS)
	@$(BIN)/python benchmarks/chaos.py $(CHAOS)

fuzz: $(VENV)/.dev ## strangers' bytes into every decoder, a minute each (ARGS="avro_schema 600", ARGS=600); needs atheris
	@$(PIP) install --quiet atheris==3.0.0 </dev/null
	@$(BIN)/python tests/fuzz/run.py $(ARGS)

clean: ## removes what the other targets made
	rm -rf $(VENV) .venv-bench build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find msemon tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "msemon needs Python 3.11 or newer; there is no $(PYTHON) here. Another: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "msemon needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Another: make PYTHON=…" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V 2>&1)"
	@$(PYTHON) -m venv $(VENV) </dev/null || { rm -rf $(VENV); exit 1; }

# A stamp each: the demo must not wait for what only tests need. Dated before the installation starts, so that a change
# to pyproject.toml meanwhile is not missed.
$(VENV)/.demo: $(PROJECT) | $(BIN)/python
	@echo "Installing msemon with what the demo needs"
	@touch $@.began
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[demo]' </dev/null
	@mv $@.began $@

$(VENV)/.dev: $(PROJECT) | $(BIN)/python
	@echo "Installing msemon with what demo, tests and checks need"
	@touch $@.began
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[demo,librdkafka,replay,avro,protobuf,dev]' </dev/null
	@cp -p $@.began $(VENV)/.demo
	@mv $@.began $@
