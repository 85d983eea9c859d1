"""Sparse ternary lists: their tables on tiny layers, gaps, ranges, and C equal to `Network`."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.layouts.bridges import STEP_LIMIT, bridged, total_weights
from mip2mcu.export.layouts.list_ranges import running_range
from mip2mcu.export.layouts.lists import Entries
from tests.layout_support import (
    linear,
    tables,
)

CODINGS, KINDS = ("delta8", "index8", "index16"), ("fast", "compact")
LAYOUTS = tuple(f"sparse_{coding}/{kind}" for coding in CODINGS for kind in KINDS)
TERNARY = (-1, 1)


def unit_of(weights: dict[int, int], inputs: int = 1000):
    """One row of weights, given by position."""
    row = np.zeros(inputs, dtype=int)
    row[list(weights)] = list(weights.values())
    return row


# ---- tables --------------------------------------------------------------------------------------------------------

SMALL = [[1, 0, 0, 1, -1], [0, -1, -1, 0, 0]]


@pytest.mark.parametrize(
    ("layout", "entries"),
    [
        ("sparse_delta8", [0, 3, 4, 1, 1]),
        ("sparse_index8", [0, 3, 4, 1, 2]),
        ("sparse_index16", [0, 3, 4, 1, 2]),
    ],
)
def test_positive_weights_come_before_negative_ones(layout, entries):
    assert tables(generate(linear(SMALL), layout=layout)) == {"counts": [2, 1, 0, 2], "entries": entries}


def test_units_far_inside_the_inputs_start_at_their_own_first_input():
    network = linear([unit_of({300: 1, 310: -1}), unit_of({990: -1, 999: 1})])
    expected = {"first": [300, 990], "counts": [1, 1, 1, 1], "entries": [0, 10, 9, 0]}
    assert tables(generate(network, layout="sparse_delta8")) == expected
    assert tables(generate(network, layout="sparse_index8")) == expected


def test_indices_of_8_bits_run_page_by_page():
    network = linear([unit_of({0: 1, 255: -1, 256: 1, 999: 1})])
    assert tables(generate(network, layout="sparse_index8")) == {
        "counts": [1, 1, 1, 0, 0, 0, 1, 0],
        "entries": [0, 255, 0, 231],
    }


def test_a_page_never_starts_behind_the_last_input():
    network = linear([unit_of({700: 1}, 701), *[unit_of({300: 1, 650: -1}, 701)] * 2])
    export = generate(network, layout="sparse_index8")
    assert tables(export)["first"] == [445, 300, 300]
    assert export.program.layers[0].details.pages == 2


# ---- gaps ----------------------------------------------------------------------------------------------------------


def test_a_gap_of_255_needs_no_bridge():
    assert bridged({1: [0, 255], -1: []}, 0) == {1: [0, 255], -1: []}


def test_a_gap_of_256_is_bridged_by_an_input_that_is_added_and_subtracted():
    assert bridged({1: [0, 256], -1: [7]}, 0) == {1: [0, 255, 256], -1: [7, 255]}


def test_a_bridge_serves_the_gaps_of_both_signs():
    assert bridged({1: [0, 300], -1: [100, 500]}, 0) == {1: [0, 255, 300], -1: [100, 255, 500]}


def test_a_bridge_is_an_input_of_another_magnitude_where_there_is_one():
    runs = {2: [0, 300], -2: [], 1: [60, 200], -1: []}
    assert bridged(runs, 0) == {2: [0, 60, 300], -2: [], 1: [200], -1: [60]}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bridged_runs_keep_every_weight_and_no_step_exceeds_255(seed):
    rng = np.random.default_rng(seed)
    inputs, limit = int(rng.integers(1, 3000)), int(rng.integers(1, 8))
    row = np.where(rng.random(inputs) < rng.choice([0.001, 0.01, 0.05]), rng.integers(-limit, limit + 1, inputs), 0)
    first = int(rng.integers(0, 1 + min(np.flatnonzero(row), default=0)))
    runs = {v: np.flatnonzero(row == v).tolist() for v in range(-limit, limit + 1) if v}
    result = bridged(runs, first)
    np.testing.assert_array_equal(total_weights(result, inputs), row)
    for positions in result.values():
        steps = np.diff([first, *positions])
        assert ((steps >= 0) & (steps <= STEP_LIMIT)).all()


# ---- ranges and types ----------------------------------------------------------------------------------------------


def test_range_follows_the_order_of_the_lists():
    lowered = generate(linear([[-1, 1]], [10]), layout="sparse_index16").program.layers[0].lowered
    assert (lowered.sum_low, lowered.sum_high) == (-245, 265)


def test_an_input_added_and_subtracted_again_does_not_widen_the_range_for_good():
    network = linear([unit_of({0: 1, 256: 1, 257: -1}), unit_of({255: 1})], high=10)
    lowered = generate(network, layout="sparse_delta8").program.layers[0].lowered
    assert (lowered.sum_low, lowered.sum_high) == (-10, 30)


@given(seed=st.integers(0, 2**32 - 1))
def test_range_is_what_the_corners_of_the_inputs_reach(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(-9, 5, 3)
    high = low + rng.integers(0, 9, 3)
    unit = np.sort(rng.integers(0, 2, int(rng.integers(0, 9))))
    entries = Entries(unit, np.zeros_like(unit), rng.choice([-1, 1], len(unit)), rng.integers(0, 3, len(unit)))
    start = rng.integers(-5, 6, 2)
    reached = [int(s) for s in start]
    for corner in product(*zip(low, high, strict=True)):
        for j in range(2):
            steps = (entries.sign * np.array(corner)[entries.position])[unit == j]
            reached += (start[j] + np.cumsum(steps)).tolist()
    assert running_range(entries, start, low, high) == (min(reached), max(reached))


def test_sums_of_16_bits_where_int_has_16_bits():
    for inputs, c_type in ((128, "int16_t"), (129, "int32_t")):
        layer = generate(linear([[1] * inputs]), "generic", layout="sparse_delta8").program.layers[0]
        assert layer.lowered.sum_type == c_type


def test_overflow_is_refused_with_the_range():
    network = linear([[1, -1]], [2**31 - 1])
    with pytest.raises(ExportError, match=r"can reach 2147483392..2147483902, beyond int32_t"):
        generate(network, layout="sparse_index16")


def test_wider_weights_are_refused_with_their_magnitude():
    with pytest.raises(ExportError, match="weights of -1, 0 and 1 only, these reach a magnitude of 2"):
        generate(linear([[2, 0]]), layout="sparse_delta8")
