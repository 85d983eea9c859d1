"""Networks at the edge of what layouts can take: exact in each layout, or refused with the numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mip2mcu.decisions import Argmax, Sign
from mip2mcu.errors import ExportError, ModelError
from mip2mcu.export import generate
from mip2mcu.export.layouts import LAYOUTS
from mip2mcu.layers import Activation, Conv2d, Dense, MaxPool
from mip2mcu.network import Network
from tests.export_support import assert_equal_to_network, compile_host, random_rows

DENSE = [name for name in LAYOUTS if name not in ("conv", "conv_dsp", "pool", "filter")]


def signs(weights, bias, low=0, high=1) -> Network:
    """Sign units behind inputs of low..high, and one sum of them: what most layouts take."""
    hidden = Dense(np.array(weights), np.array(bias), Activation.SIGN)
    inputs, last = hidden.weights.shape[1], Dense(np.ones((1, hidden.units), dtype=int), [0])
    return Network(np.full(inputs, low), np.full(inputs, high), (hidden, last), Sign(), ("a", "b"))


def one_hot_row(inputs, value=1):
    row = np.zeros((2, inputs), dtype=int)
    row[0, -1], row[1, 0] = value, -value
    return row


CASES = {
    "a unit without weights": signs([[0] * 40, [1] * 40, [0] * 40], [0, -7, -1]),
    "a layer without weights": signs(np.zeros((3, 40), dtype=int), [0, -1, 1]),
    "an input without weights": signs(np.array([[1, 0, -1] * 11, [0, 0, 1] * 11]), [0, -1]),
    "one input and one unit": signs([[-1]], [0]),
    "one input that is always 0": signs([[1]], [-1], high=0),
    "more inputs than a gap of 8 bits counts": signs(one_hot_row(700), [-1, 0]),
    "more units than a byte counts": signs(np.eye(300, 2, dtype=int), np.zeros(300)),
    "weights at the ends of int8": signs([[127, -128, 0], [-127, 1, 128]], [-1, 0]),
    "weights beyond int8": signs([[129, -129, 1], [255, -256, 0]], [-1, 0], high=255),
    "the largest weights": signs([[32767, -32767, 1], [0, 0, 32767]], [-1, 0], high=255),
    "negative inputs": signs([[3, -3, 1], [0, 1, -1]], [-1, 0], low=-1000, high=-990),
    "a bias beyond int16": signs([[1, -1], [1, 1]], [-40_000, 2_000_000_000]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_layout_is_exact_or_refuses_with_the_numbers(case, tmp_path):
    network = CASES[case]
    exports, refusals = [], []
    for k, layout in enumerate(DENSE):
        try:
            exports.append(generate(network, "cortex-m4", f"net{k}", layout=f"0={layout}"))
        except ExportError as error:
            refusals.append(str(error))
    assert len(exports) >= 2
    for refusal in refusals:
        assert re.search(r"\d", refusal.partition(" fits no layout ")[2] or refusal), refusal
    rows = random_rows(network, 3, np.random.default_rng(0))
    for compiled in compile_host(exports, tmp_path):
        assert_equal_to_network(compiled, network, rows)


@pytest.mark.parametrize("target", ["cortex-m4", "avr", "rv32ec", "generic"])
@pytest.mark.parametrize("case", CASES)
def test_every_target_has_a_layout_for_it(case, target):
    assert generate(CASES[case], target).program.layers


@pytest.mark.parametrize("layout", ["bit_planes", "sparse_delta8", "dense"])
def test_the_most_inputs_are_exact(layout, tmp_path):
    network = signs(one_hot_row(65_535), [-1, 0])
    (compiled,) = compile_host([generate(network, "generic", layout=layout)], tmp_path)
    assert_equal_to_network(compiled, network, random_rows(network, 3, np.random.default_rng(0)))


def test_the_most_units_are_exact(tmp_path):
    network = signs(np.eye(65_535, 2, dtype=int), np.zeros(65_535))
    (compiled,) = compile_host([generate(network, "generic", layout="dense")], tmp_path)
    assert_equal_to_network(compiled, network, random_rows(network, 3, np.random.default_rng(0)))


def test_avr_says_which_array_is_too_large():
    with pytest.raises(ExportError, match=r"dense needs an input of 65535 bytes, an array of avr has at most 32767"):
        generate(signs(one_hot_row(65_535), [-200, 100], high=255), "avr", layout="0=dense")


@pytest.mark.parametrize("layout", DENSE)
def test_a_single_class_needs_no_decision(layout, tmp_path):
    low = 0
    network = Network(np.zeros(9), np.ones(9), (Dense(np.ones((1, 9), dtype=int), [low]),), Argmax(1), ("only",))
    try:
        (compiled,) = compile_host([generate(network, "cortex-m4", layout=layout)], tmp_path)
    except ExportError as error:
        assert layout == "bit_columns" and "takes sign units only" in str(error)
        return
    assert_equal_to_network(compiled, network, random_rows(network, 5, np.random.default_rng(0)))


# ---- what no network can have --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: signs(np.zeros((1, 65_536), dtype=int), [0]), r"needs 1\.\.65535 inputs .*, got \(65536,\) lower"),
        (lambda: signs(np.zeros((65_536, 1), dtype=int), np.zeros(65_536)), r"shape \(65536,\) has more than 65535"),
        (lambda: signs([[32_768]], [0]), r"weights reach 32768\.\.32768, allowed is -32767\.\.32767"),
        (lambda: signs([[1]], [2**41]), "biases reach 2199023255552"),
        (lambda: signs(np.zeros((0, 3), dtype=int), []), r"weights have shape \(0, 3\)"),
        (lambda: signs(np.zeros((3, 0), dtype=int), [0, 0, 0]), r"weights have shape \(3, 0\)"),
    ],
)
def test_what_no_layer_can_be_is_refused_when_it_is_made(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_a_tensor_of_more_elements_than_an_index_counts_is_refused_when_it_is_made():
    layers = (Conv2d(np.ones((70, 1, 1, 1), dtype=int), np.zeros(70)), MaxPool((2, 2), (2, 2)))
    last = Dense(np.ones((1, 70 * 16 * 16), dtype=int), [0])
    with pytest.raises(ModelError, match=r"shape \(70, 32, 32\) has more than 65535 elements"):
        Network(np.zeros(1024), np.ones(1024), (*layers, last), Sign(), ("a", "b"), (1, 32, 32))
