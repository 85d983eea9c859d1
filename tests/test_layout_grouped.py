"""Lists by magnitude: their tables on tiny layers, factors, ranges, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from tests.layout_support import (
    linear,
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
