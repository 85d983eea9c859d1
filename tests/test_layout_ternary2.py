"""Two-bit ternary weights: packing and its inverse, the variant of each target, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.layouts.ternary2 import pack_fields, pack_planes, unpack_fields, unpack_planes
from tests.layout_support import (
    linear,
    tables,
)

LAYOUT = "ternary2/fast"
TERNARY = (-1, 1)
TARGETS = ("host", "generic", "cortex-m4")
"""One for each variant: words, bytes, planes."""


# ---- tables --------------------------------------------------------------------------------------------------------


def test_weights_are_two_bits_the_first_lowest():
    assert tables(generate(linear([[1, -1, 0, 0, 0, 1]]), "generic", layout=LAYOUT)) == {"fields": [0b1101, 0b0100]}


def test_words_hold_16_weights():
    fields = tables(generate(linear([[1, -1] + [0] * 14 + [1]]), "host", layout=LAYOUT))["fields"]
    assert fields == [0b1101, 0b01]


def test_planes_hold_the_signs_apart_and_the_first_input_highest():
    fields = tables(generate(linear([[1, -1, 1]]), "cortex-m4", layout=LAYOUT))["fields"]
    assert fields == [0xA0000000, 0x40000000]


@given(seed=st.integers(0, 2**32 - 1))
def test_unpacking_gives_the_weights_back(seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-1, 2, (int(rng.integers(1, 4)), int(rng.integers(1, 100))))
    inputs = weights.shape[1]
    np.testing.assert_array_equal(unpack_planes(pack_planes(weights), inputs), weights)
    for group in (4, 16):
        np.testing.assert_array_equal(unpack_fields(pack_fields(weights, group), group, inputs), weights)


# ---- ranges and refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "ends"), [("host", (-245, 165)), ("cortex-m4", (-145, 265))])
def test_range_follows_the_order_of_the_additions(target, ends):
    network = linear([[-1, 1]], [10], low=100, high=255)
    lowered = generate(network, target, layout=LAYOUT).program.layers[0].lowered
    assert (lowered.sum_low, lowered.sum_high) == ends


def test_wider_weights_are_refused_with_their_magnitude():
    with pytest.raises(ExportError, match="weights of -1, 0 and 1 only, these reach a magnitude of 2"):
        generate(linear([[2, 0]]), layout=LAYOUT)


def test_overflow_is_refused_with_the_range():
    with pytest.raises(ExportError, match=r"can reach 2147483647\.\.2147483902, beyond int32_t"):
        generate(linear([[1]], [2**31 - 1]), layout=LAYOUT)
