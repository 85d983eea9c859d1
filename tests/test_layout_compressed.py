"""Compressed weights: Golomb-Rice codes, their size against the entropy, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.layouts.compressed import compress, unpack_table
from mip2mcu.export.layouts.rice import RiceCode, best_code, by_frequency, from_chunks, to_chunks
from tests.layout_support import (
    linear,
    random_sparse,
    tables,
)

LAYOUT = "compressed"
TERNARY, FEW_BITS, INT8 = (-1, 1), tuple(range(-7, 8)), tuple(range(-127, 128))
SKEWED = (-300, -3, -2, -1, -1, -1, 1, 1, 1, 1, 1, 2, 2, 9)
VALUES = {"ternary": TERNARY, "3 bits": FEW_BITS, "int8": INT8, "skewed": SKEWED, "one": (5,), "pair": (-2, 3)}


def layer_of(network, target="host"):
    return generate(network, target, layout=LAYOUT).program.layers[0]


# ---- codes ---------------------------------------------------------------------------------------------------------


def test_a_code_is_the_quotient_in_unary_and_the_remainder_in_bits():
    assert [RiceCode(2).bits(n) for n in (0, 3, 4, 9)] == ["100", "111", "0100", "00101"]


def test_the_largest_quotient_needs_no_closing_one():
    assert [RiceCode(0, 2).bits(n) for n in (0, 1, 2)] == ["1", "01", "00"]


def test_numbers_below_a_power_of_two_may_be_plain_bits():
    assert [RiceCode(3, 0).bits(n) for n in (0, 5)] == ["000", "101"]


def test_the_best_remainder_grows_with_the_numbers():
    assert best_code(np.array([0, 0, 1])) == RiceCode(0)
    assert best_code(np.array([9, 14, 15])) == RiceCode(3)
    assert best_code(np.array([0, 5, 9, 13]), limit=14) == RiceCode(3, 1)


@given(numbers=st.lists(st.integers(0, 300), min_size=1), remainder=st.integers(0, 12), limited=st.booleans())
def test_reading_gives_the_numbers_back(numbers, remainder, limited):
    code = RiceCode(remainder, max(numbers) >> remainder if limited else None)
    bits = "".join(code.bits(n) for n in numbers)
    assert len(bits) == code.lengths(np.array(numbers)).sum()
    at, found = 0, []
    for _ in numbers:
        number, at = code.read(bits, at)
        found.append(number)
    assert (found, at) == (numbers, len(bits))


def test_chunks_hold_the_first_bit_highest():
    assert to_chunks("1000000001", 8, 2) == [0x80, 0x40]
    assert from_chunks([0x80, 0x40], 8) == "1000000001000000"


def test_values_come_by_frequency_and_then_the_larger_first():
    assert by_frequency(np.array([3, -1, -1, 5])) == (-1, 5, 3)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), values=st.sampled_from(list(VALUES.values())))
def test_unpacking_gives_the_weights_back(seed, values):
    rng = np.random.default_rng(seed)
    weights = random_sparse(rng, (int(rng.integers(1, 6)), int(rng.integers(1, 900))), values)
    np.testing.assert_array_equal(compress(weights).weights(weights.shape[1]), weights)


# ---- tables and size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "codes"), [("host", [0b11_10_0110_0000_0000, 0]), ("generic", [0b11_10_0110])])
def test_bits_of_a_tiny_layer(target, codes):
    export = generate(linear([[1, -1, 0, 1], [0, 0, 0, 0]]), target, layout=LAYOUT)
    assert tables(export) == {"counts": [3, 0], "codes": codes}


def test_tables_hold_the_bits():
    weights = random_sparse(np.random.default_rng(5), (4, 300), FEW_BITS)
    for target in ("host", "generic"):
        codes = layer_of(linear(weights), target).details.codes
        assert unpack_table(codes).startswith(compress(weights).bits)


def test_ternary_weights_take_at_most_four_percent_over_their_entropy():
    weights = np.zeros(784 * 16, dtype=int)
    chosen = np.random.default_rng(1).choice(weights.size, 1232, replace=False)
    weights[chosen] = np.random.default_rng(2).choice([-1, 1], 1232)
    layer = layer_of(linear(weights.reshape(16, 784)))
    entropy = 880
    assert layer.lowered.table_bytes <= 1.04 * entropy


def test_ensembles_of_blocks_take_no_more_than_their_blocks():
    blocks = np.kron(np.eye(40, dtype=int), np.ones((1, 16), dtype=int))
    layer = layer_of(linear(blocks))
    assert tables(generate(linear(blocks), layout=LAYOUT))["first"] == list(range(0, 640, 16))
    assert layer.details.bits == 40 * 16 * 2


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_many_values_are_refused_with_their_number():
    with pytest.raises(ExportError, match="takes at most 256 values of weights, these have 300"):
        layer_of(linear([list(range(1, 301))]))


def test_overflow_is_refused_with_the_range():
    with pytest.raises(ExportError, match=r"can reach 2147483000\.\.2147493200, beyond int32_t"):
        layer_of(linear([[20, 20]], [2147483000]))
