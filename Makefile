# Every target makes its own environment; nothing needs to be activated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_RUNS ?= runs/demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_OFFLINE ?= 1

.PHONY: help install demo test test-clusters lint bench bench-prefix bench-gpu chaos clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## Make .venv with the tested set of packages

$(STAMP): pyproject.toml constraints/cpu-py311.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu-py311.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Sweep, train, evaluate and report on the embedded model
	$(BIN)/longact ablate --sparsity 0.1,0.3,0.5 --study demo --runs-dir $(DEMO_RUNS)
	$(BIN)/longact report --experiment demo --runs-dir $(DEMO_RUNS)

test: $(STAMP) ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-clusters: $(STAMP) ## Test on a real Slurm and a real Ray of this machine (root; installs Slurm with apt)
	apt-get install --quiet --yes --no-install-recommends slurm-wlm munge
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu-py311.txt --editable '.[dev,slurm,ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" tests/integration/test_clusters.py tests/integration/test_slurm_alone.py tests/integration/test_ray_stop.py tests/integration/test_ray_alone.py

lint: $(STAMP) ## Check style, types and the direction of imports
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure start-up, planning and the mask's overhead
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench

bench-prefix: $(STAMP) ## Measure shared prompts against TRL's own trainer (20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.shared_prefix
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.prefix_scaling --plot docs/performance
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.token_budget

bench-gpu: $(STAMP) ## Test and measure mask and shared prompts on a GPU
	$(BIN)/python -m pytest -m gpu tests/unit/training/test_flex_block.py
	$(BIN)/python -m tests.bench.gpu

chaos: $(STAMP) ## Kill, cut off and tear sweeps; print what became of each (about half an hour)
	$(BIN)/python -m tests.chaos

clean: ## Remove the environment and caches; runs and results stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find src tests -name __pycache__ -type d -exec rm -rf {} +
