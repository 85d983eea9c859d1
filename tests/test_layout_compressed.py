"""Compressed weights: Golomb-Rice codes, their size against the entropy, and C equal to `Network`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.layouts.compressed import compress, unpack_table
from mip2mcu.export.layouts.rice import RiceCode, best_code, by_frequency, from_chunks, to_chunks
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


# ---- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", list(VALUES.values()), ids=list(VALUES))
@settings(max_examples=2, deadline=None, phases=[Phase.generate])  # each example is a compilation
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6, unique=True))
def test_c_equals_network(values, seeds, tmp_path_factory):
    assert_exact([random_network(seed, values) for seed in seeds], tmp_path_factory.mktemp("packed"), LAYOUT)


@pytest.mark.parametrize("values", list(VALUES.values()), ids=list(VALUES))
def test_c_for_int_of_16_bits_equals_network(values, tmp_path):
    assert_exact([random_network(seed, values) for seed in range(5)], tmp_path, LAYOUT, "generic")


@pytest.mark.parametrize("target", ["host", "generic"])
def test_extremes_are_exact(target, tmp_path):
    wide = np.zeros((3, 65535), dtype=int)
    wide[0, [0, 20000, 65534]] = 1, -2, 3
    wide[1] = 32767
    networks = [
        linear(np.zeros((2, 7))),
        linear([[32767]]),
        linear([[-1], [0]], [5, -5]),
        linear(wide, high=1),
        linear([[0] * 65534 + [-1]], low=-1, high=1),
    ]
    assert_exact(networks, tmp_path, LAYOUT, target)


@pytest.mark.parametrize("target", EVERY_CORE)
@pytest.mark.parametrize("values", [TERNARY, FEW_BITS], ids=["ternary", "3 bits"])
def test_cores_equal_network(target, values, tmp_path):
    rng = np.random.default_rng(3)
    hidden = Dense(random_sparse(rng, (33, 300), values), rng.integers(-99, 99, 33), Activation.SIGN)
    network = network_of(hidden, Dense(rng.choice([*values, 0], (4, 33)), rng.integers(-9, 9, 4)))
    assert_exact_on_core(network, tmp_path, LAYOUT, target)


@pytest.mark.parametrize("values", [TERNARY, SKEWED], ids=["ternary", "skewed"])
def test_avr_compiles_quietly(values, tmp_path):
    assert_avr_compiles_quietly(random_network(4, values), tmp_path, LAYOUT)


@pytest.mark.parametrize("target", ["host", "generic"])
def test_c_reads_no_other_memory(target, tmp_path):
    networks = [random_network(seed, SKEWED) for seed in range(20, 26)]
    assert_defined(networks, tmp_path, LAYOUT, target)
