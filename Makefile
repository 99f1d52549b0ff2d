# make reproduce: the whole pipeline on the bundled sample.  make test: style, types and all tests.
# make test-long: the tests that take minutes: thousands of damaged files, and peak memory.
# make verify: runs the last commit afresh elsewhere and compares every output.
# make check-gpu: trains on the GPU twice, a minute, and compares the bytes.
# Each sets up what it needs first; PYTHON names the interpreter to use (3.11 to 3.13).

PYTHON ?= python3
VENV := $(CURDIR)/.venv
# uv installs in a quarter of pip's time (25 s, 107 s); pip does where only its own settings know the
# package index.
UV := uv==0.13.9
install = uv pip install --quiet --compile-bytecode --python $(VENV) -r $(1) || pip install --quiet -r $(1)
export PATH := $(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help reproduce test test-long verify check-gpu requirements

help:
	@sed -n 's/^# make/make/p' Makefile

reproduce: $(VENV)/installed
	dvc repro
	@echo "The report: $(CURDIR)/reports/index.html"

verify: $(VENV)/installed
	python -m stages.verify

check-gpu: $(VENV)/installed-gpu
	python -m stages.check_gpu

test: $(VENV)/installed-dev
	ruff check .
	ruff format --check .
	codespell
	mypy
	lint-imports
	pytest -m "not long" --numprocesses auto --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/installed-dev
	pytest -m long --numprocesses auto

# requirements*.txt are compiled from requirements*.in, for all three versions of Python at once.
requirements: $(VENV)/installed
	for name in requirements requirements-gpu requirements-remotes requirements-dev; do \
		uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --upgrade $$name.in -o $$name.txt || exit 1; \
	done

$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "error: Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 reproduce")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet $(UV)
	$(call install,requirements.txt)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(call install,requirements-dev.txt)
	touch $@

$(VENV)/installed-gpu: $(VENV)/installed requirements-gpu.txt
	$(call install,requirements-gpu.txt)
	touch $@
