"""Intervals of integer sums are exact, products are exact, and nothing is cut on the way into an array."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mip2mcu.errors import UsageError
from mip2mcu.ranges import c_integer_type, exact_product, frozen, prefix_range, sum_range


def test_sum_range_by_hand():
    low, high = sum_range(np.array([[2, -3]]), np.array([1]), np.array([0, -1]), np.array([5, 4]))
    assert (low.tolist(), high.tolist()) == ([-11], [14])


def test_sum_range_of_no_units_is_empty():
    low, high = sum_range(np.zeros((0, 2), int), np.zeros(0, int), np.zeros(2, int), np.ones(2, int))
    assert (low.tolist(), high.tolist()) == ([], [])


@given(
    hnp.arrays(np.int64, (2, 3), elements=st.integers(-4, 4)),
    hnp.arrays(np.int64, 2, elements=st.integers(-9, 9)),
    hnp.arrays(np.int64, 3, elements=st.integers(-3, 1)),
    hnp.arrays(np.int64, 3, elements=st.integers(0, 2)),
)
def test_both_ends_of_a_sum_range_are_attained(weights, bias, low, width):
    boxes = [range(a, a + w + 1) for a, w in zip(low, width, strict=True)]
    sums = np.array([weights @ np.array(point) + bias for point in product(*boxes)])
    least, most = sum_range(weights, bias, low, low + width)
    assert least.tolist() == sums.min(axis=0).tolist()
    assert most.tolist() == sums.max(axis=0).tolist()


def test_prefix_range_holds_partial_sums_that_the_total_hides():
    weights, bias = np.array([[100, -100]]), np.array([0])
    low, high = np.array([1, 1]), np.array([1, 1])
    assert sum_range(weights, bias, low, high) == (0, 0)
    assert prefix_range(weights, bias, low, high) == (0, 100)


def test_prefix_range_starts_at_the_bias():
    assert prefix_range(np.array([[1]]), np.array([-50]), np.array([60]), np.array([70])) == (-50, 20)


@given(
    hnp.arrays(np.int64, (2, 3), elements=st.integers(-4, 4)),
    hnp.arrays(np.int64, 2, elements=st.integers(-9, 9)),
    hnp.arrays(np.int64, 3, elements=st.integers(-3, 1)),
    hnp.arrays(np.int64, 3, elements=st.integers(0, 2)),
)
def test_prefix_range_is_the_hull_of_every_partial_sum(weights, bias, low, width):
    partial = [bias]
    for point in product(*[range(a, a + w + 1) for a, w in zip(low, width, strict=True)]):
        partial += [bias + weights[:, :n] @ np.array(point[:n]) for n in (1, 2, 3)]
    assert prefix_range(weights, bias, low, low + width) == (np.min(partial), np.max(partial))


def test_exact_product_of_small_numbers():
    assert exact_product(np.array([[1, 2], [3, 4]]), np.array([[5, 6]])).tolist() == [[17], [39]]


def test_exact_product_keeps_the_last_unit_beyond_53_bits():
    rows, weights = np.array([[2**31, 1]]), np.array([[2**31, 1]])
    assert exact_product(rows, weights).tolist() == [[2**62 + 1]]


@pytest.mark.parametrize(("rows", "units", "inputs"), [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_exact_product_of_nothing_is_zero(rows, units, inputs):
    result = exact_product(np.zeros((rows, inputs), dtype=np.int64), np.zeros((units, inputs), dtype=np.int64))
    assert result.tolist() == [[0] * units] * rows


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 255, "uint8_t"),
        (0, 256, "uint16_t"),
        (-1, 127, "int8_t"),
        (-1, 128, "int16_t"),
        (-128, 0, "int8_t"),
        (-129, 0, "int16_t"),
        (0, 65535, "uint16_t"),
        (0, 65536, "uint32_t"),
        (-(2**15), 2**15 - 1, "int16_t"),
        (-(2**15) - 1, 0, "int32_t"),
        (0, 2**32 - 1, "uint32_t"),
        (-(2**31), 2**31 - 1, "int32_t"),
        (0, 2**32, None),
        (-1, 2**31, None),
    ],
)
def test_narrowest_c_type(low, high, expected):
    assert c_integer_type(low, high) == expected


def test_c_type_of_at_least_16_bits():
    assert c_integer_type(0, 1, at_least_bits=16) == "uint16_t"


def test_a_frozen_array_is_a_read_only_copy():
    values = np.array([1, 2])
    copy = frozen(values)
    values[0] = 9
    assert copy.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 3


@pytest.mark.parametrize("values", [[1.0, -2.0], np.array([1, -2], dtype=np.int8), [True, False]])
def test_whole_numbers_of_any_type_are_taken(values):
    assert frozen(values).tolist() == [int(v) for v in values]


@pytest.mark.parametrize("values", [[0.5], [np.nan], [np.inf], [2.0**63], [2**63], [2**70], ["1"], [None], [1j]])
def test_what_int64_cannot_hold_is_refused(values):
    with pytest.raises(UsageError, match="no 64-bit integers: round them first"):
        frozen(values)


def test_the_ends_of_int64_are_taken():
    assert frozen([-(2**63), 2**63 - 1]).tolist() == [-(2**63), 2**63 - 1]


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(UsageError, match="rows of unequal length"):
        frozen([[1, 2], [3]])
