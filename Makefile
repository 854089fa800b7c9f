# Two commands are all a newcomer needs: `make run` and `make test`. `make` alone lists the others.
#
#   PYTHON       the Python (3.11 or newer) that makes the virtual environment
#   TORCH_INDEX  where torch comes from; https://download.pytorch.org/whl/cpu is the small one without CUDA
#   NB           one notebook by its number: make run NB=02
#   PAPER        whose sweep: make sweep PAPER=mispel
#   WORKERS      test processes

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
NB ?=
PAPER ?= mispel
WORKERS ?= 2

TORCH := torch==2.13.0
# What computes: weights, training, networks, methods.
NUMERIC := $(addprefix tests/test_,$(addsuffix .py,report results training flows spline segmentation protocol classical \
  low_frequency combat ravel comparators blindharmony hail mispel style_transfer))
PY := $(VENV)/bin/python
# Made when the installation has ended well; older than either file below, the installation is done again.
STAMP := $(VENV)/.harmony-lite-installed
SERIES := $(PY) notebooks/series.py

# One thread a process: the numbers in README are measured so, and two test processes do not fight for two cores.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
# Simulated people are made once and shared by run, test and lab; `make clean` removes them.
export HARMONY_CACHE ?= $(abspath build/cache)

.DEFAULT_GOAL := help
.PHONY: help setup run test plain lab execute bench weights ledger sweep student budget clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(STAMP) ## make the virtual environment and install, once

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("found Python %d.%d, wanted 3.11 or newer: make PYTHON=python3.11" % v[:2])'
	@echo "==> Setting up, once: virtual environment in $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "==> Setting up: $(TORCH)$(if $(TORCH_INDEX), from $(TORCH_INDEX))"
	@$(PY) -m pip install --quiet $(TORCH) -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@echo "==> Setting up: the package, JupyterLab, the book's and the tests' tools"
	@$(PY) -m pip install --quiet -e '.[notebooks,book,test]' -c constraints.txt
	@touch $@
	@echo "==> Set up"

run: $(STAMP) ## execute the notebooks in the quick profile and build the book; NB=02 runs one
	@start=$$(date +%s); \
	echo "==> 1/2 Executing the notebooks" && $(SERIES) run $(NB) && \
	echo "==> 2/2 Building the book" && $(SERIES) book && \
	$(if $(NB),true,$(SERIES) note "make run" $$(($$(date +%s) - start)))

test: $(STAMP) ## style, unit and property tests, doctests, pairs, and every cell of every notebook
	@start=$$(date +%s); \
	echo "==> 1/4 ruff check" && $(PY) -m ruff check . && \
	echo "==> 2/4 ruff format --check" && $(PY) -m ruff format --check . && \
	echo "==> 3/4 Unit and property tests, doctests, pairs, book" && \
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile && \
	echo "==> 4/4 Every cell of every notebook" && \
	$(PY) -m pytest -q -o addopts= --nbval-lax --nbval-current-env --nbval-cell-timeout=120 \
	  --nbval-kernel-startup-timeout=180 -p no:randomly -p no:rerunfailures -p no:benchmark \
	  -n $(WORKERS) --dist loadfile notebooks && \
	$(SERIES) note "make test" $$(($$(date +%s) - start))

plain: $(STAMP) ## the numeric tests once more, with plain processor instructions: as on another maker's processor
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PY) -m pytest -q -n $(WORKERS) --dist loadfile $(NUMERIC)

lab: $(STAMP) ## open JupyterLab on the first notebook
	@cd notebooks && $(abspath $(VENV))/bin/jupyter lab 00_start_here.ipynb

execute: $(STAMP) ## re-make the committed .ipynb, with outputs, from their sources; NB=02 re-makes one
	@$(SERIES) execute $(NB)

bench: $(STAMP) ## measure costs, each beside a peer
	@$(PY) -m pytest -o addopts= --benchmark-only tests/benchmarks

weights: $(STAMP) ## train the shipped weights again
	@$(PY) data_scripts/train_weights.py

ledger: $(STAMP) ## compute our rows of the papers' tables and the verdicts; an interrupted run goes on
	@$(PY) data_scripts/compute_ledger.py

sweep: $(STAMP) ## train PAPER's method again and again, each time with one thing changed, and measure what follows
	@$(PY) data_scripts/sweep_$(PAPER).py

student: $(STAMP) ## copies of the notebooks without solutions, in build/student
	@$(SERIES) student $(NB)

budget: $(STAMP) ## write what make run and make test measured into README's table
	@$(SERIES) budget

clean: ## remove what was built; the virtual environment stays
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis .benchmarks
	@find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf
	@echo "Removed build/ and caches. The virtual environment is kept: rm -r $(VENV) removes it."
