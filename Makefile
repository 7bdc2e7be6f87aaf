# make demo   sets everything up and runs the main job on a real film
# make test   sets everything up and passes the tests
# make check  format, lint, types, quick tests
# make docs   the documentation as a site, in site/
# make gpu-check  on a machine with a GPU: its tests and benchmarks
# TORCH=system uses the torch, torchvision and torchaudio that PYTHON already has.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= pinned
BIN    := $(VENV)/bin
UV     := $(BIN)/uv

# Whole files, in the order of tests/conftest.py: the longest first.
TWO_WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

ifeq ($(TORCH),system)
VENV_FLAGS := --system-site-packages
TORCH_LOCK :=
else
VENV_FLAGS :=
TORCH_LOCK := -r requirements/torch.txt
endif

.PHONY: demo test check docs format gpu-check lock clean help

help:
	@sed -n 's/^# //p' Makefile

$(UV):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, got " + sys.version)'
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

$(VENV)/installed-%: $(UV) pyproject.toml requirements/torch.txt requirements/%.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(TORCH_LOCK) -r requirements/$*.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(VENV)/installed-run
	@PATH="$(abspath $(BIN)):$$PATH" sh tools/demo.sh

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(TWO_WORKERS) -m "not gpu"

check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/python -m pytest $(TWO_WORKERS) -m "not slow and not gpu" -q

# On a machine with a GPU: the tests marked gpu and the GPU benchmarks, as a table in docs/gpu.md.
gpu-check: $(VENV)/installed-test
	$(BIN)/python -m benchmarks.gpu

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: $(VENV)/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The torch stack has a lock of its own, so that a torch that is already there can take its place.
TORCH_STACK := ^(torch|torchaudio|torchvision|triton|cuda-[a-z]*|nvidia-[a-z0-9-]*)==
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	--constraint requirements/torch.in pyproject.toml

lock: $(UV)
	$(COMPILE) --extra test --extra dev > requirements/test.txt
	$(COMPILE) --constraint requirements/test.txt > requirements/run.txt
	$(COMPILE) --constraint requirements/test.txt --extra docs > requirements/docs.txt
	grep -E '$(TORCH_STACK)' requirements/run.txt > requirements/torch.txt
	for lock in run test docs; do \
		grep -vxFf requirements/torch.txt requirements/$$lock.txt > $(VENV)/lock.txt; \
		mv $(VENV)/lock.txt requirements/$$lock.txt; \
	done

clean:
	rm -rf demo runs site
