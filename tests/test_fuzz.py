"""Differential fuzzing: compiled C of random networks, in random layouts, on every target, against the naive evaluator.

A small number of examples here; `FUZZ=25 pytest tests/test_fuzz.py` runs 25 times as many, as `make nightly` does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from mip2mcu.export import TARGETS
from tests.fuzzing import Case, budget, cases, check, require_target

FUZZED = [target for target in TARGETS if target not in ("host", "generic", "cortex-m", "cortex-m0plus")]
"""Targets with instruction sets of their own; the C of the others runs on these or on the host."""
QUIET = {"deadline": None, "phases": [Phase.explicit, Phase.reuse, Phase.generate], "print_blob": True}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def checked(case: Case, target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(case, target, Path(folder))


@settings(max_examples=budget(24), suppress_health_check=SLOW, **QUIET)
@given(case=cases())
def test_c_on_the_host_is_what_the_naive_evaluator_computes(case):
    require_target("host")
    checked(case, "host")


@settings(max_examples=budget(6), suppress_health_check=SLOW, **QUIET)
@given(case=cases())
def test_generic_c_is_what_the_naive_evaluator_computes(case):
    require_target("generic")
    checked(case, "generic")


@pytest.mark.parametrize("target", FUZZED)
def test_c_on_a_core_is_what_the_naive_evaluator_computes(target):
    require_target(target)

    @settings(max_examples=budget(3), suppress_health_check=SLOW, **QUIET)
    @given(case=cases())
    def on_core(case):
        checked(case, target)

    on_core()
