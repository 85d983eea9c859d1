"""Compressed sparse rows: their tables on tiny layers, products, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from tests.layout_support import (
    linear,
    tables,
)

LAYOUT = "csr8"
KINDS = ("csr8/fast", "csr8/compact")
INT8 = tuple(range(-127, 128))
WIDE = (-255, -128, -3, 7, 90, 255)


def layer_of(network, target="host"):
    return generate(network, target, layout=LAYOUT).program.layers[0]


# ---- tables and types ----------------------------------------------------------------------------------------------


def test_positive_weights_come_before_negative_ones_as_step_and_magnitude():
    assert tables(generate(linear([[5, 0, -7, 9], [0, 0, 0, 0]]), layout=LAYOUT)) == {
        "counts": [2, 1, 0, 0],
        "entries": [0, 5, 3, 9, 2, 7],
    }


def test_a_gap_over_255_is_bridged_by_a_magnitude_of_zero():
    row = np.zeros(600, dtype=int)
    row[[0, 511]] = 3, 4
    assert tables(generate(linear([row]), layout=LAYOUT))["entries"] == [0, 3, 255, 0, 255, 0, 1, 4]


def test_units_far_inside_the_inputs_start_at_their_own_first_input():
    row = np.zeros(900, dtype=int)
    row[[800, 801]] = 3, -4
    export = generate(linear([row]), layout=LAYOUT)
    assert export.program.layers[0].details.first == "800U"
    assert tables(export) == {"counts": [1, 1], "entries": [0, 3, 1, 4]}


@pytest.mark.parametrize(
    ("weights", "low", "high", "types"),
    [
        ([[100, 1]], 0, 255, ("int16_t", "int16_t")),
        ([[200, 1]], 0, 255, ("uint16_t", "int32_t")),
        ([[-200, 1]], -128, 127, ("int16_t", "int16_t")),
        ([[-200, 99]], -128, 127, ("int16_t", "int32_t")),
        ([[255, 1]], 0, 4000, ("int32_t", "int32_t")),
    ],
)
def test_products_and_sums_are_as_narrow_as_16_bit_cores_allow(weights, low, high, types):
    layer = layer_of(linear(weights, low=low, high=high), "generic")
    assert (layer.details.product_type, layer.lowered.sum_type) == types


def test_larger_magnitudes_are_refused_with_the_largest():
    with pytest.raises(ExportError, match="takes magnitudes up to 255, these reach 256"):
        layer_of(linear([[256, 0]]))


def test_overflow_is_refused_with_the_range():
    with pytest.raises(ExportError, match=r"can reach 0..2147493200, beyond int32_t"):
        layer_of(linear([[20, 20]], [2147483000]))
