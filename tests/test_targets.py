from __future__ import annotations

import pytest

from mip2mcu.errors import ExportError
from mip2mcu.export import TARGETS, Target, find_target


def test_every_target_is_found_by_its_own_name():
    assert [find_target(name).name for name in TARGETS] == list(TARGETS)


def test_the_families_are_those_that_runners_know():
    assert {target.family for target in TARGETS.values()} <= {"host", "arm", "avr", "riscv", "generic"}


def test_any_cortex_m_means_the_smallest():
    assert TARGETS["cortex-m"].gcc_flags == TARGETS["cortex-m0"].gcc_flags == ("-mcpu=cortex-m0", "-mthumb")


def test_clang_knows_cores_by_underscores():
    assert TARGETS["cortex-m4"].clang_flags == ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4")


def test_indices_are_16_bits_where_int_is():
    assert (TARGETS["generic"].index_type, TARGETS["host"].index_type) == ("uint16_t", "uint32_t")


def test_a_target_of_ones_own_is_taken_as_it_is():
    own = Target("my-chip", "generic", "a chip")
    assert find_target(own) is own


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ExportError, match=r"no target 'cortex-m99': choose one of host, cortex-m, .*generic"):
        find_target("cortex-m99")
