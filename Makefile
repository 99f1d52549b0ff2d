# make reproduce: the whole pipeline; what a colleague ran comes from the remote, if there is one.
# make reproduce JOBS=4: the same, four stages at once where they do not need each other.
# make test: style, types and all tests.
# make test-long: the tests that take minutes: thousands of damaged files, and peak memory.
# make test-faults: kills, full disks and the like; one command recovers from each.
# make benchmark: measures the speed, most of an hour, and writes it into docs/performance.md.
# make verify: runs the last commit afresh elsewhere and compares every output.
# make check: hashes every output here and in the remote, and names what is damaged.
# make mend: restores what make check names.
# make check-gpu: trains on the GPU twice, a minute, and compares the bytes.
# make tensorboard: shows the trainings that were run with TENSORBOARD=1.
# Each sets up what it needs first; PYTHON names the interpreter to use (3.11 to 3.13).

PYTHON ?= python3
# Relative: make cannot have a target whose path has a space. Of programs, only those in it are called
# to install: whatever happens, nothing is installed elsewhere.
VENV := .venv
# uv installs in a quarter of pip's time (25 s, 107 s); pip does where only its own settings know the
# package index.
UV := uv==0.13.9
pip = $(VENV)/bin/python -m pip install --quiet
install = $(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV) -r $(1) || $(pip) -r $(1)
repro = $(if $(JOBS),python -m stages.side_by_side --jobs '$(JOBS)',dvc repro)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help reproduce test test-long test-faults benchmark verify check mend check-gpu tensorboard requirements

help:
	@sed -n 's/^# make/make/p' Makefile

reproduce: $(VENV)/installed
	python -m stages.recover
	remote=$$(dvc config core.remote) && $(repro) $${remote:+--pull}
	@echo "The report: $$PWD/reports/index.html"

verify: $(VENV)/installed
	python -m stages.verify

check: $(VENV)/installed
	python -m stages.check

mend: $(VENV)/installed
	python -m stages.check --mend

check-gpu: $(VENV)/installed-gpu
	python -m stages.check_gpu

tensorboard: $(VENV)/installed-tensorboard
	tensorboard --logdir data/tensorboard

test: $(VENV)/installed-dev
	ruff check .
	ruff format --check .
	codespell
	mypy
	lint-imports
	pytest -m "not long and not faults" --numprocesses auto --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/installed-dev
	pytest -m long --numprocesses auto

test-faults: $(VENV)/installed-dev
	pytest -m faults --numprocesses 3  # they wait a third of their time

benchmark: $(VENV)/installed-dev
	PYTHONPATH=.:tests:tests/benchmarks python tests/benchmarks/run.py $(ONLY)

# requirements*.txt are compiled from requirements*.in, for all three versions of Python at once.
requirements: $(VENV)/installed
	for name in requirements requirements-gpu requirements-remotes requirements-tensorboard requirements-exports requirements-cluster requirements-dev; do \
		uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --upgrade $$name.in -o $$name.txt || exit 1; \
	done

$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "error: Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 reproduce")'
	$(PYTHON) -m venv $(VENV)
	$(pip) $(UV)
	$(call install,requirements.txt)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(call install,requirements-dev.txt)
	touch $@

$(VENV)/installed-gpu: $(VENV)/installed requirements-gpu.txt
	$(call install,requirements-gpu.txt)
	touch $@

$(VENV)/installed-tensorboard: $(VENV)/installed requirements-tensorboard.txt
	$(call install,requirements-tensorboard.txt)
	touch $@
