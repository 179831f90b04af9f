# The one vocabulary for people and CI. Every target sets up what it needs: python3 (3.11 or later), git and make are enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo ui test test-all test-jax test-containers check format lock dist clean

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Some machines set it: each of the hundreds of programs that the tests start would compile vggflow again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

setup: $(READY)  ## the environment in .venv, locked with hashes

$(READY): requirements/dev.lock requirements/uv.lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vggflow needs Python 3.11 or later, this is " + sys.version.split()[0])'
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.lock.txt; }
	$(BIN)/uv pip sync -q --python $(BIN)/python --compile-bytecode --require-hashes requirements/dev.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
	@touch $(READY)

demo: $(READY)  ## the whole way on the embedded sample, in demo/
	@vggflow demo demo/digits

ui: $(READY)  ## MLflow and Prefect on the demo's workspace
	@test -f demo/digits/params.yaml || { echo 'no demo here yet: run `make demo` first'; exit 2; }
	@vggflow -C demo/digits ui

# Three files at a time: much of a test is waiting, and two cores are what every machine has. The long files come first.
THREE_AT_A_TIME := -n 3 --dist loadfile --no-loadscope-reorder

test: $(READY)  ## every commit
	@pytest -q $(THREE_AT_A_TIME)

test-all: $(READY)  ## also kills, concurrency, servers and browsers
	@pytest -q $(THREE_AT_A_TIME) -m 'slow or not slow'

test-jax: $(READY)  ## models, explanations and training on the JAX backend
	@KERAS_BACKEND=jax pytest -q tests/unit/training tests/unit/search
	@KERAS_BACKEND=jax pytest -q -m 'slow or not slow' tests/unit/models tests/unit/evaluation/test_explain.py

test-containers: $(READY)  ## builds the images of infra/ and walks the stack; needs Docker, or root on Debian to install it
	@pytest -q -s --run-containers -p no:xdist tests/containers

check: $(READY)  ## lint, format, types, import contracts, schemas of the servers' files
	@ruff check . && ruff format --check . && mypy && lint-imports
	@check-jsonschema --builtin-schema vendor.compose-spec infra/compose.yaml
	@kubernetes-validate --strict --quiet infra/k8s/*.yaml infra/k8s/ray/network.yaml
	@check-jsonschema --schemafile infra/raycluster.schema.json infra/k8s/ray/cluster.yaml
	@check-jsonschema --schemafile infra/pool.schema.json infra/pools/*.json
	@check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml

format: $(READY)  ## puts the code into shape
	@ruff check --fix . ; ruff format .

COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

lock: $(READY)  ## resolves the dependencies again
	$(COMPILE) --extra dev pyproject.toml -o requirements/dev.lock
	$(COMPILE) pyproject.toml -o requirements/runtime.lock
	$(COMPILE) -c requirements/dev.lock --group server-image -o requirements/server.lock
	$(COMPILE) -c requirements/dev.lock --group worker-image --extra s3 --extra ray pyproject.toml -o requirements/worker.lock
	$(COMPILE) -c requirements/dev.lock --group worker-image --extra s3 --extra ray --extra gpu pyproject.toml -o requirements/worker-gpu.lock
	$(COMPILE) -c requirements/dev.lock --group worker-image --extra s3 --extra ray --extra gpu-jax pyproject.toml -o requirements/worker-gpu-jax.lock
	$(COMPILE) -c requirements/dev.lock --group store-stand-in -o requirements/store-stand-in.lock
	grep -A 40 '^uv==' requirements/dev.lock | awk 'NR > 1 && /^[a-z]/ {exit} !/^ *#/' > requirements/uv.lock.txt

# The wheel is built from the sdist, so a file that the sdist lacks is missed here and not by a user.
dist: $(READY)  ## wheel and sdist, checked, and the demo run from the wheel in a clean environment
	rm -rf dist && uv build -q --no-build-isolation --offline --out-dir dist
	uv venv -q --python $(BIN)/python dist/try
	uv pip sync -q --python dist/try/bin/python --compile-bytecode --require-hashes requirements/runtime.lock
	uv pip install -q --python dist/try/bin/python --no-deps --offline dist/vggflow-*.whl
	uv pip check -q --python dist/try/bin/python
	cd dist && env -u PYTHONPATH PATH="$(CURDIR)/dist/try/bin:/usr/bin:/bin" try/bin/vggflow demo demo
	rm -rf dist/try dist/demo* && ls dist

clean:  ## the environment, the demo and caches away
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache dist
