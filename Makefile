# make demo    train, export and verify a network on real data          (needs Python 3.11 only)
# make test    everything that must hold, on this machine's tools       (names what it skips)
# make nightly long fuzzing, ten million vectors on every core, proofs  (hours, with MIP2MCU_DATA; resumes where it stopped)
# make lint    ruff and mypy
# make clean   remove the virtual environment and what was built

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test nightly lint clean

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/demo.py

test: $(VENV)/test.stamp lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -rs

nightly: $(VENV)/test.stamp
	REQUIRE_ALL=1 FUZZ=25 $(BIN)/python -m pytest -n 2 tests/test_fuzz.py
	$(BIN)/python -m benchmarks.nightly
	$(BIN)/python -m benchmarks.prove

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/demo.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("mip2mcu needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[verify]'
	touch $@

$(VENV)/test.stamp: pyproject.toml $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
