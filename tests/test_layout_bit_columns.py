"""Bit columns: tables of tiny layers, when they are refused, and C equal to `Network` in every variant."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mip2mcu.errors import ExportError
from mip2mcu.export import generate
from mip2mcu.export.carry_save import Step, Word, turn
from mip2mcu.export.layouts.bit_columns import BitColumnsLayout
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
LAYOUT = "bit_columns,bit_planes"
"""The last layer has sums to give, which columns do not."""


@pytest.fixture(params=[False, True], ids=["fast", "compact"])
def compact(request, monkeypatch) -> bool:
    """Both sizes of code, whatever the planner prefers."""
    lower = BitColumnsLayout.lower

    def forced(layout, layer, context):
        return lower(layout, layer, replace(context, compact=request.param))

    monkeypatch.setattr(BitColumnsLayout, "lower", forced)
    return request.param


def hidden(weights, bias=None, low=0) -> Network:
    """A layer of sign units and one of a single sum."""
    weights = np.array(weights)
    bias = np.zeros(len(weights)) if bias is None else np.array(bias)
    return network_of(Dense(weights, bias, Activation.SIGN), Dense(np.ones((1, len(weights))), [0]), low=low, high=1)


# ---- tables --------------------------------------------------------------------------------------------------------


def test_two_inputs_ripple_through_three_planes():
    assert turn(2, 1, 3) == (
        Step("ones", (Word(0, 0), Word(1, 0)), "carry1", reads=(0, 1)),
        Step("twos", ("carry1",), "carry2"),
        Step("fours", ("carry2",), is_top=True),
    )


def test_columns_follow_the_planes_to_begin_with():
    """Unit j fires from a count of 2 on (-x0 + x1 >= 0, 1 where x0 is 0 or x1 is 1), or always, or never."""
    network = hidden([[-1, 1], [1, 1], [-1, 1]], [-1, 0, -2])
    export = generate(network, "cortex-m0", layout=LAYOUT)
    values = tables(export)["columns"]
    begin = [sum((values[b] >> j & 1) << b for b in range(3)) for j in range(3)]
    assert begin == [4 - 2, 4 - 0, 4 - 3]
    assert values[3:5] == [0b101, 0b000]
    assert not any(values[5:])


def test_up_to_16_units_share_a_word_with_the_inputs_16_further():
    weights = np.ones((16, 32), dtype=int)
    weights[3, 1], weights[15, 17] = -1, -1
    export = generate(hidden(weights), "cortex-m0", layout=LAYOUT)
    details = export.program.layers[0].details
    assert details.halves
    assert tables(export)["columns"][len(details.planes) :][:3] == [0, 1 << 3 | 1 << 31, 0]


@pytest.mark.parametrize(
    ("inputs", "fast", "small"),
    [(8, (4, 1), (8, 2)), (33, (4, 1), (8, 1)), (127, (4, 4), (8, 8)), (140, (2, 1), (8, 3))],
)
def test_the_last_word_takes_no_more_turns_than_it_needs(inputs, fast, small, compact):
    details = generate(hidden(np.ones((20, inputs))), "cortex-m0", layout=LAYOUT).program.layers[0].details
    assert (details.turns, details.rest_turns) == (small if compact else fast)


def test_sums_are_refused():
    with pytest.raises(ExportError, match="takes sign units only, these have the activation 'none'"):
        generate(linear([[1, -1]], high=1), layout="bit_columns")


def test_wide_weights_are_refused():
    with pytest.raises(ExportError, match="takes weights up to 7, these reach 8"):
        generate(hidden([[8, -1]]), layout=LAYOUT)


# ---- exactness -----------------------------------------------------------------------------------------------------


def random_sign_network(seed: int, most: int = 1500) -> Network:
    """One to three layers of sign units behind inputs of 0 and 1; determined by ``seed``."""
    rng = np.random.default_rng(seed)
    choices = [n for n in (1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 64, 100, 127, 128, 300, 1500) if n <= most]
    widths = [int(rng.choice(choices))]
    widths += rng.choice([1, 3, 8, 15, 16, 17, 31, 32, 33, 40, 70], int(rng.integers(1, 4))).tolist()
    layers = []
    for inputs, units in pairwise(widths):
        limit = int(rng.choice([1, 2, 3, 7]))
        weights = rng.integers(-limit, limit + 1, (units, inputs))
        if rng.integers(0, 2):
            weights = rng.choice([-1, 1], (units, inputs))
        weights[rng.integers(0, units)] = rng.choice([-1, 1])
        bias = rng.integers(-9, 10, units) - weights.sum(axis=1) // 2
        bias[rng.integers(0, units)] = rng.choice([-(10**6), 10**6, 0])
        layers.append(Dense(weights, bias, Activation.SIGN))
    layers.append(Dense(rng.integers(-1, 2, (3, widths[-1])), rng.integers(-9, 10, 3)))
    return network_of(*layers, high=1)


def layouts_of(network: Network, last: str = "bit_planes") -> str:
    return ",".join(["bit_columns"] * (len(network.layers) - 1) + [last])


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("target", VARIANTS)
@settings(
    max_examples=1,  # each example is two compilations of eight networks
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=24, max_size=24, unique=True))
def test_c_equals_network(layers, target, compact, seeds, tmp_path_factory):
    networks = [network for network in map(random_sign_network, seeds) if len(network.layers) == layers][:8]
    for last in ("bit_planes", "dense"):
        layout = ",".join(["bit_columns"] * (layers - 1) + [last])
        assert_exact(networks, tmp_path_factory.mktemp("columns"), layout, target)


@pytest.mark.parametrize("target", VARIANTS)
def test_extremes_are_exact(target, compact, tmp_path):
    wide = np.ones((2, 65535), dtype=int)
    wide[1] = np.arange(65535) % 3 - 1
    networks = [
        hidden(np.zeros((2, 7))),
        hidden([[1]]),
        hidden([[-1], [0]], [0, -1]),
        hidden(wide, [-65535, 3]),
        hidden(np.full((33, 20), 7), [-2800] * 16 + [-2801] * 17),
        hidden(np.ones((2, 40)), [-40, -41], low=1),
    ]
    assert_exact(networks, tmp_path, LAYOUT, target)


@pytest.mark.parametrize("target", [*CORES, "avr"])
@pytest.mark.parametrize("seed", range(4))
def test_cores_equal_network(seed, target, compact, tmp_path):
    network = random_sign_network(seed, most=128)
    assert_exact_on_core(network, tmp_path, layouts_of(network, ("bit_planes", "dense")[seed % 2]), target)


def test_avr_gcc_does_not_warn(tmp_path):
    for seed in range(4):
        network = random_sign_network(seed, most=128)
        assert_avr_compiles_quietly(network, tmp_path, layouts_of(network))
