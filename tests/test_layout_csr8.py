"""Compressed sparse rows: their tables on tiny layers, products, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
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


# ---- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", KINDS)
@pytest.mark.parametrize("values", [INT8, WIDE, (-1, 1)], ids=["int8", "wide", "ternary"])
@settings(max_examples=1, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network(layout, values, seeds, tmp_path_factory):
    assert_exact([random_network(seed, values) for seed in seeds], tmp_path_factory.mktemp("csr"), layout)


@pytest.mark.parametrize("layout", KINDS)
def test_c_for_int_of_16_bits_equals_network(layout, tmp_path):
    networks = [random_network(seed, values) for seed in range(6) for values in (INT8, WIDE)]
    assert_exact(networks, tmp_path, layout, "generic")


def test_extremes_are_exact(tmp_path):
    wide = np.zeros((3, 65535), dtype=int)
    wide[0, [0, 20000, 65534]] = 1, -2, 255
    wide[1] = -255
    networks = [linear(np.zeros((2, 7))), linear([[255]]), linear([[-255], [0]], [5, -5]), linear(wide, high=1)]
    assert_exact(networks, tmp_path, LAYOUT)


@pytest.mark.parametrize("layout", KINDS)
@pytest.mark.parametrize("target", EVERY_CORE)
def test_cores_equal_network(layout, target, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(rng.integers(-127, 128, (33, 300)), rng.integers(-99, 99, 33), Activation.SIGN)
    network = network_of(hidden, Dense(rng.choice([-255, 0, 4], (4, 33)), rng.integers(-9, 9, 4)))
    assert_exact_on_core(network, tmp_path, layout, target)


def test_avr_compiles_quietly(tmp_path):
    assert_avr_compiles_quietly(random_network(4, INT8), tmp_path, LAYOUT)


@pytest.mark.parametrize("target", ["host", "generic"])
def test_c_reads_no_other_memory(target, tmp_path):
    networks = [random_network(seed, INT8) for seed in range(20, 26)]
    assert_defined(networks, tmp_path, LAYOUT, target)
