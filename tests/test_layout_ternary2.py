"""Two-bit ternary weights: packing and its inverse, the variant of each target, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.layouts.ternary2 import pack_fields, pack_planes, unpack_fields, unpack_planes
from mip2mcu.layers import Activation, Dense
from tests.layout_support import (
    EVERY_CORE,
    assert_avr_compiles_quietly,
    assert_defined,
    assert_exact,
    assert_exact_on_core,
    linear,
    network_of,
    random_network,
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


# ---- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=3, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network(target, seeds, tmp_path_factory):
    networks = [random_network(seed, TERNARY) for seed in seeds]
    assert_exact(networks, tmp_path_factory.mktemp("ternary2"), LAYOUT, target)


@pytest.mark.parametrize("target", TARGETS)
def test_extremes_are_exact(target, tmp_path):
    wide = np.zeros((3, 65535), dtype=int)
    wide[0, [0, 65534]] = 1
    wide[1] = -1
    networks = [
        linear(np.zeros((2, 7))),
        linear([[1]]),
        linear([[-1], [0]], [5, -5]),
        linear(wide, high=9),
        linear(np.ones((1, 256))),
    ]
    assert_exact(networks, tmp_path, LAYOUT, target)


@pytest.mark.parametrize("target", EVERY_CORE)
def test_cores_equal_network(target, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(rng.integers(-1, 2, (33, 300)), rng.integers(-99, 99, 33), Activation.SIGN)
    network = network_of(hidden, Dense(rng.integers(-1, 2, (4, 33)), rng.integers(-9, 9, 4)))
    assert_exact_on_core(network, tmp_path, LAYOUT, target)


def test_avr_compiles_quietly(tmp_path):
    assert_avr_compiles_quietly(random_network(4, TERNARY), tmp_path, LAYOUT)


@pytest.mark.parametrize("target", TARGETS)
def test_c_reads_no_other_memory(target, tmp_path):
    networks = [random_network(seed, TERNARY) for seed in range(20, 26)]
    assert_defined(networks, tmp_path, LAYOUT, target)
