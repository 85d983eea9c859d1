"""Bit planes: the carry-save schedule, tables of tiny layers, and C equal to `Network` in every variant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.carry_save import Group, Schedule, Step, Word, plan_blocks, schedule
from mip2mcu.export.layouts.bit_planes import BitPlanesLayout
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from tests.layout_support import (
    CORES,
    assert_avr_compiles_quietly,
    assert_exact,
    assert_exact_on_core,
    linear,
    network_of,
    tables,
)

VARIANTS = ("host", "generic", "cortex-m0", "cortex-m4")
"""Targets whose C differs: with and without products, with values and masks kept in registers."""


@pytest.fixture(params=[False, True], ids=["fast", "compact"])
def compact(request, monkeypatch) -> bool:
    """Both sizes of code, whatever the planner prefers."""
    lower = BitPlanesLayout.lower

    def forced(layout, layer, context):
        return lower(layout, layer, replace(context, compact=request.param))

    monkeypatch.setattr(BitPlanesLayout, "lower", forced)
    return request.param


# ---- the schedule --------------------------------------------------------------------------------------------------


def test_three_words_take_one_addition():
    assert schedule(3, 1, 1).steps == (
        Step("ones", (Word(0, 0),), reads=(0,)),
        Step("ones", (Word(1, 0), Word(2, 0)), "twos", new_plane=True, reads=(1, 2)),
    )
    assert schedule(3, 1, 1).groups == (Group((("ones", 0), ("twos", 1)), 0, widen=False, folds=False),)


def test_a_word_alone_is_counted_as_it_is():
    assert schedule(1, 1, 1).steps == (Step("ones", (Word(0, 0),), reads=(0,)),)
    assert schedule(1, 1, 1).groups == (Group((("ones", 0),), 0, widen=False, folds=True),)


def test_lanes_widen_where_a_byte_could_overflow():
    assert [schedule(words, 1, 1).wide for words in (31, 32)] == [False, True]
    assert [schedule(words, 2, 3).wide for words in (10, 11)] == [False, True]


def count_as_scheduled(found: Schedule, words):
    """The lanes (of 8 or 16 bits) that the C of ``found`` gives for ``words`` (words, masks); checks every overflow."""
    variables: dict[str, int] = {}

    def value(term):
        return int(words[term.index, term.mask]) if isinstance(term, Word) else variables[term]

    for step in found.steps:
        terms = [value(term) for term in step.terms]
        if not step.carry:
            variables[step.total] = terms[0]
            continue
        a, b, c = [variables[step.total], *terms, 0][:3]
        variables[step.total], variables[step.carry] = a ^ b ^ c, (a & b) | (a & c) | (b & c)
    lanes, width = np.zeros(4, dtype=int), 8
    for group in found.groups:
        nibbles = np.zeros(8, dtype=int)
        for name, shift in group.terms:
            nibbles += [(variables[name] >> (4 * k) & 15).bit_count() << shift for k in range(8)]
        assert nibbles.max() <= 15
        part = nibbles[0::2] + nibbles[1::2]
        assert part.max() <= (15 if group.folds else 255)
        if group.widen:
            lanes, width = lanes[0::2] + lanes[1::2], 16
        lanes = (lanes << group.shift) + (part if width == 8 else part[0::2] + part[1::2])
        assert lanes.max() < 2**width
    assert lanes.max() <= found.lane_high
    assert found.wide == (width == 16)
    return lanes


@pytest.mark.parametrize(("masks", "column_high"), [(1, 1), (2, 2), (2, 3), (3, 7), (5, 31)])
@pytest.mark.parametrize("count", [*range(1, 18), 25, 31, 32, 33, 40])
def test_schedules_count_every_bit(count, masks, column_high):
    rng = np.random.default_rng(count)
    found = schedule(count, masks, column_high)
    assert [index for step in found.steps for index in step.reads] == list(range(count))
    for share in (0.0, 0.5, 1.0):
        magnitudes = np.where(rng.random((count, 32)) < share, rng.integers(0, column_high + 1, (count, 32)), 0)
        magnitudes = np.full_like(magnitudes, column_high) if share == 1 else magnitudes
        words = np.stack([(((magnitudes >> b) & 1) << np.arange(32)).sum(axis=1) for b in range(masks)], axis=1)
        lanes = count_as_scheduled(found, words)
        np.testing.assert_array_equal(lanes, magnitudes.sum(axis=0).reshape(len(lanes), -1).sum(axis=1))


@pytest.mark.parametrize("words", [1, 2, 24, 31, 32, 49, 97, 2048])
@pytest.mark.parametrize("code", [75, 400])
def test_blocks_cover_a_row(words, code):
    blocks = plan_blocks(words, 1, 1, code)
    assert sum(block.repeat * block.schedule.words for block in blocks) == words
    assert sum(block.schedule.cost for block in blocks) <= code


@pytest.mark.parametrize(("words", "repeats"), [(25, [1]), (40, [1]), (80, [2])])
def test_rows_of_up_to_40_words_are_one_straight_line(words, repeats):
    assert [block.repeat for block in plan_blocks(words, 1, 1, 400)] == repeats


# ---- tables --------------------------------------------------------------------------------------------------------


def test_binary_weights_are_signs_alone():
    network = linear(np.array([[1] * 20, [-1] * 20]), [3, 4], high=1)
    assert tables(generate(network, layout="bit_planes")) == {"planes": [0, 0xFFFFF], "offset": [3, -16]}


def test_ternary_weights_have_a_mask():
    weights = [[1, 0, -1] + [0] * 17]
    assert tables(generate(linear(weights, high=1), layout="bit_planes")) == {"planes": [0b100, 0b101]}


def test_few_bit_weights_have_a_mask_for_each_bit_of_their_magnitude():
    weights = [[1, -2, 3, -4, 5] + [0] * 15]
    expected = [0b01010, 0b10101, 0b00110, 0b11000]
    assert tables(generate(linear(weights, high=1), layout="bit_planes")) == {"planes": expected}


def test_rows_begin_where_their_weights_begin():
    weights = np.zeros((3, 200), dtype=int)
    weights[0, [33, 64]] = 1, -1
    weights[1, [0, 40]] = -1, 1
    weights[2, 199] = 1
    expected = {
        "planes": [0, 2, 1, 1, 1, 1, 0, 1 << 8, 0, 0, 0, 1 << 7],
        "first": [1, 0, 5],
        "offset": [-1, -1, 0],
    }
    assert tables(generate(linear(weights, high=1), "cortex-m0", layout="bit_planes")) == expected


def test_on_avr_the_first_byte_and_the_limit_lie_around_a_row():
    weights = np.zeros((2, 100), dtype=int)
    weights[0, [16, 31]] = -1, 1
    weights[1, [90, 91]] = 1, 1
    network = network_of(Dense(weights, [0, -2], Activation.SIGN), Dense([[1, -1]], [0]), high=1)
    export = generate(network, "avr", layout="bit_planes")
    assert tables(export) == {"planes": [2, 1, 1, 0, 128, 1, 11, 0, 12, 0, 0, 2]}


@pytest.mark.parametrize("compact", [False], indirect=True)
def test_two_units_of_at_most_16_inputs_share_a_word(compact):
    network = linear([[-1, 1, 1] * 4, [1, -1, -1] * 4, [-1] * 12], high=1)
    export = generate(network, layout="bit_planes")
    assert tables(export) == {"planes": [0xDB60249, 0xFFF], "offset": [-4, -8, -12]}
    assert (export.program.layers[0].details.share, export.program.layers[0].details.surplus) == (2, 1)


@pytest.mark.parametrize("compact", [False], indirect=True)
def test_four_units_of_at_most_8_inputs_share_a_word(compact):
    network = linear([[-1, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]], high=1)
    export = generate(network, layout="bit_planes")
    assert tables(export) == {"planes": [0x00030201, 0x1], "offset": [-1, -1, -2, 0, -1]}


def test_only_binary_inputs_are_taken():
    with pytest.raises(ExportError, match=r"bit_planes takes binary inputs only, these lie in 0\.\.2"):
        generate(linear([[1, -1]], high=2), layout="bit_planes")


def test_weights_beyond_12_bits_are_refused_with_their_magnitude():
    with pytest.raises(ExportError, match="takes weights up to 4095, these reach a magnitude of 4096"):
        generate(linear([[4096, 1]], high=1), layout="bit_planes")


def test_overflow_is_refused_with_the_range():
    with pytest.raises(ExportError, match=r"can reach 2147483647..2147483648, beyond int32_t"):
        generate(linear([[1, 0]], [2**31 - 1], high=1), layout="bit_planes")


# ---- exactness -----------------------------------------------------------------------------------------------------


def random_weights(rng, shape):
    limit = int(rng.choice([1, 1, 2, 3, 7, 40, 4095]))
    if rng.integers(0, 3) == 0:
        return rng.choice([-limit, limit], shape) if limit < 4 else rng.choice([-1, 1], shape)
    weights = np.where(rng.random(shape) < rng.choice([0.05, 0.5, 1.0]), rng.integers(-limit, limit + 1, shape), 0)
    weights[rng.integers(0, shape[0])] = rng.choice([0, limit])
    return weights


def random_binary_network(seed: int) -> Network:
    """One or two layers behind inputs of 0 and 1, the second behind sign units; determined by ``seed``."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.choice([1, 2, 8, 9, 16, 17, 31, 32, 33, 64, 100, 224, 500, 1000, 1300, 2000]))
    layers, width = [], inputs
    if rng.integers(0, 3):
        units = int(rng.choice([1, 3, 7, 8, 16, 31, 32, 33, 70]))
        weights = random_weights(rng, (units, inputs))
        layers.append(Dense(weights, rng.integers(-9, 10, units) - weights.sum(axis=1) // 2, Activation.SIGN))
        width = units
    units = int(rng.choice([1, 2, 5, 10]))
    layers.append(Dense(random_weights(rng, (units, width)), rng.integers(-300, 301, units)))
    return network_of(*layers, high=1)


def block_diagonal(rng, blocks: int, inputs: int, units: int):
    """Weights (blocks * units, blocks * inputs): each unit reads the inputs of its block."""
    weights = np.zeros((blocks * units, blocks * inputs), dtype=int)
    for b in range(blocks):
        block = rng.integers(-1, 2, (units, inputs)) * rng.integers(1, 4)
        weights[b * units : (b + 1) * units, b * inputs : (b + 1) * inputs] = block
    return weights


def ensemble(seed: int) -> Network:
    """Members side by side, each with its own inputs, hidden units and sum; determined by ``seed``."""
    rng = np.random.default_rng(seed)
    blocks, inputs, units = int(rng.integers(2, 12)), int(rng.integers(1, 90)), int(rng.integers(1, 40))
    hidden = block_diagonal(rng, blocks, inputs, units)
    last = block_diagonal(rng, blocks, units, 1)
    signs = Dense(hidden, rng.integers(-3, 4, len(hidden)), Activation.SIGN)
    return network_of(signs, Dense(last, last.sum(axis=1)), high=1)


def random_small_network(seed: int) -> Network:
    """Up to two layers of sign units and one of sums, small enough for an ATmega328P."""
    rng = np.random.default_rng(seed)
    widths = rng.choice([1, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 129], int(rng.integers(1, 4))).tolist()
    layers = []
    for inputs, units in zip(widths, [*widths[1:], 0], strict=True):
        weights = random_weights(rng, (units or 4, inputs))
        bias = rng.integers(-9, 10, len(weights)) - (weights.sum(axis=1) // 2 if units else 0)
        layers.append(Dense(weights, bias, Activation.SIGN if units else Activation.NONE))
    return network_of(*layers, high=1)


@pytest.mark.parametrize("target", VARIANTS)
@settings(
    max_examples=2,  # each is a compilation of eight networks
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8, unique=True))
def test_c_equals_network(target, compact, seeds, tmp_path_factory):
    networks = [ensemble(seed) if seed % 3 == 0 else random_binary_network(seed) for seed in seeds]
    assert_exact(networks, tmp_path_factory.mktemp("planes"), "bit_planes", target)


@pytest.mark.parametrize("target", ["host", "cortex-m4", "generic"])
def test_rows_of_any_length_equal_network(target, compact, tmp_path):
    rng = np.random.default_rng(5)
    inputs = (800, 992, 993, 1024, 8192, 65535)
    wide = [linear(rng.choice(values, (1, n)), high=1) for n in inputs for values in ([-1, 1], [-1, 0, 1], [-3, 2])]
    assert_exact(wide, tmp_path, "bit_planes", target)


@pytest.mark.parametrize("target", VARIANTS)
def test_extremes_are_exact(target, compact, tmp_path):
    heavy = np.full((1, 2100), 4095)
    networks = [
        linear(np.zeros((2, 7)), high=1),
        linear([[1]], high=1),
        linear([[-1], [0]], [5, -5], high=1),
        linear(np.ones((2, 65535)), [0, -65535], high=1),
        linear(np.stack([np.full(65535, -1), np.arange(65535) % 2]), high=1),
        linear(heavy, high=1),
        linear(-heavy, high=1),
        linear(np.full((9, 8), 31), high=1),
        linear(np.full((9, 8), 32), high=1),
        linear(np.full((9, 16), -15), high=1),
        linear(np.full((3, 16), 255), high=1),
        linear(np.ones((2, 40)), low=1, high=1),
    ]
    assert_exact(networks, tmp_path, "bit_planes", target)


@pytest.mark.parametrize("target", [*CORES, "avr"])
@pytest.mark.parametrize(("inputs", "limit"), [(300, 1), (64, 1), (800, 0), (70, 7), (9, 0), (17, 300), (400, 1)])
def test_cores_equal_network(inputs, limit, target, compact, tmp_path):
    rng = np.random.default_rng(3)

    def weights(*shape):
        return rng.integers(-limit, limit + 1, shape) if limit else rng.choice([-1, 1], shape)

    hidden = Dense(weights(33, inputs), rng.integers(-inputs // 2, 2, 33), Activation.SIGN)
    network = network_of(hidden, Dense(weights(5, 33), rng.integers(-9, 9, 5)), high=1)
    assert_exact_on_core(network, tmp_path, "bit_planes", target)


@pytest.mark.parametrize("target", [*CORES, "avr"])
@pytest.mark.parametrize("seed", range(6))
def test_cores_equal_random_networks(seed, target, tmp_path):
    assert_exact_on_core(random_small_network(seed), tmp_path, "bit_planes", target)


@pytest.mark.parametrize("target", [*CORES, "avr"])
def test_cores_equal_an_ensemble(target, compact, tmp_path):
    rng = np.random.default_rng(1)
    hidden = Dense(block_diagonal(rng, 6, 40, 9), rng.integers(-3, 4, 54), Activation.SIGN)
    network = network_of(hidden, Dense(block_diagonal(rng, 6, 9, 1), np.zeros(6)), high=1)
    assert_exact_on_core(network, tmp_path, "bit_planes", target)


def test_avr_gcc_does_not_warn(tmp_path):
    for seed in range(4):
        assert_avr_compiles_quietly(random_small_network(seed), tmp_path, "bit_planes")


@pytest.mark.parametrize("target", VARIANTS)
def test_packing_sets_every_bit(target, tmp_path):
    """`assert_exact` packs through C; here every single input is the only one, and any byte but 0 counts as 1."""
    from tests.export_support import compile_host, exports_of

    networks = [linear(np.ones((1, n)), high=1) for n in (1, 31, 32, 33, 64, 100)]
    for compiled in compile_host(exports_of(networks, target, "bit_planes"), tmp_path):
        inputs = compiled.program.input.elements
        for i in range(inputs):
            row = np.zeros(inputs, dtype=int)
            row[i] = (1, 2, 128, 255)[i % 4]
            words = compiled.encode(row)
            assert [(int(words[k // 32]) >> (k % 32)) & 1 for k in range(inputs)] == np.sign(row).tolist()
            assert sum(int(word).bit_count() for word in words) == 1
