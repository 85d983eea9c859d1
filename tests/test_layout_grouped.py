"""Lists by magnitude: their tables on tiny layers, factors, ranges, and C equal to `Network`."""

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

CODINGS, KINDS = ("delta8", "index8", "index16"), ("fast", "compact")
LAYOUTS = tuple(f"grouped_{coding}/{kind}" for coding in CODINGS for kind in KINDS)
FEW_BITS = tuple(range(-7, 8))


def layer_of(network, layout="grouped_index16", target="host"):
    return generate(network, target, layout=layout).program.layers[0]


# ---- tables and types ----------------------------------------------------------------------------------------------


def test_the_largest_magnitude_comes_first_and_positive_weights_before_negative_ones():
    network = linear([[1, -2, 2, 0, 1], [0, 0, 0, 0, -2]])
    expected = {"counts": [1, 1, 2, 0, 0, 1, 0, 0], "entries": [2, 1, 0, 4, 4]}
    assert tables(generate(network, layout="grouped_index16")) == expected
    expected["entries"] = [2, 1, 0, 4, 4]
    assert tables(generate(network, layout="grouped_delta8")) == expected


def test_neighbouring_magnitudes_need_no_factor():
    assert layer_of(linear([[1, 2, -3]])).details.factors == "1"


def test_a_factor_is_the_distance_to_the_next_magnitude():
    assert list(layer_of(linear([[1, -4, 100]])).details.factors.values) == [96, 3, 1]


def test_one_magnitude_has_one_factor():
    assert layer_of(linear([[5, -5, 0]])).details.factors == "5"


def test_running_sums_may_be_narrower_than_the_sum():
    layer = layer_of(linear([[100] * 20]), target="generic")
    assert (layer.details.running_type, layer.lowered.sum_type) == ("int16_t", "int32_t")
    assert (layer.lowered.sum_low, layer.lowered.sum_high) == (0, 510000)


def test_overflow_is_refused_with_the_range():
    with pytest.raises(ExportError, match=r"can reach 0..2147493200, beyond int32_t"):
        generate(linear([[20, 20]], [2147483000]), layout="grouped_index16")


def test_many_magnitudes_are_refused_with_their_number():
    with pytest.raises(ExportError, match="at most 16 different magnitudes, these have 17"):
        generate(linear([list(range(1, 18))]), layout="grouped_delta8")


def test_bridges_over_wide_gaps_are_weights_of_other_magnitudes():
    row = np.zeros(700, dtype=int)
    row[[0, 600]] = 3
    row[[100, 200, 300, 400, 500]] = 1
    row[250] = 2
    details = layer_of(linear([row]), "grouped_delta8").details
    assert (details.non_zeros, details.bridges) == (8, 2)


# ---- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("values", [FEW_BITS, (-90, -64, -5, -1, 2, 64), (-300, 300)], ids=["3 bits", "six", "wide"])
@settings(max_examples=1, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network(layout, values, seeds, tmp_path_factory):
    assert_exact([random_network(seed, values) for seed in seeds], tmp_path_factory.mktemp("grouped"), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_c_for_int_of_16_bits_equals_network(layout, tmp_path):
    networks = [random_network(seed, values) for seed in range(5) for values in (FEW_BITS, (-100, 3, 9))]
    assert_exact(networks, tmp_path, layout, "generic")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_extremes_are_exact(layout, tmp_path):
    wide = np.zeros((3, 65535), dtype=int)
    wide[0, [0, 20000, 65534]] = 1, -2, 3
    wide[1] = 32767
    networks = [
        linear(np.zeros((2, 7))),
        linear([[32767]]),
        linear([[-32767], [0]], [5, -5]),
        linear(wide, high=1),
        linear(np.full((1, 256), 15)),
    ]
    assert_exact(networks, tmp_path, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", EVERY_CORE)
def test_cores_equal_network(layout, target, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(rng.integers(-3, 4, (33, 300)), rng.integers(-99, 99, 33), Activation.SIGN)
    network = network_of(hidden, Dense(rng.choice([-9, 0, 4], (4, 33)), rng.integers(-9, 9, 4)))
    assert_exact_on_core(network, tmp_path, layout, target)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_avr_compiles_quietly(layout, tmp_path):
    assert_avr_compiles_quietly(random_network(4, FEW_BITS), tmp_path, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", ["host", "generic"])
def test_c_reads_no_other_memory(target, layout, tmp_path):
    networks = [random_network(seed, FEW_BITS) for seed in range(20, 26)]
    assert_defined(networks, tmp_path, layout, target)
