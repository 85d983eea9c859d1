from __future__ import annotations

import numpy as np
import pytest

from mip2mcu.decisions import Argmax
from mip2mcu.layers import Activation, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.mip.solver import Solver
from mip2mcu.network import Network
from mip2mcu.prune.arrays import from_weights
from mip2mcu.prune.float_network import FloatConv, FloatDense, FloatNetwork
from mip2mcu.prune.lossless import compressed, stability, without_constants
from tests.float_networks import conv_network, dense_network


def box(size, high=15.0):
    return np.zeros(size), np.full(size, high)


def points(size, rows=3000, high=15.0, seed=0):
    return np.random.default_rng(seed).uniform(0, high, (rows, size))


def found(network, **options):
    size = int(np.prod(network.input_shape))
    return stability(network, *box(size), points(size), Solver(time_limit=5), **options)


def two_layers(second, bias, inputs=3):
    """Three units that pass the inputs on, then ``second``, then two classes."""
    return from_weights(
        [np.eye(3, inputs), second, np.random.default_rng(0).normal(size=(2, len(second)))],
        [np.zeros(3), bias, np.zeros(2)],
    )


def test_units_that_never_fire_and_that_always_fire_are_found_in_the_first_layer():
    network = from_weights([[[1, 1], [-1, -1], [1, -1], [1, 0]], np.ones((2, 4))], [[0, 0, 0, -15], [0, 0]])
    signs = found(network)
    assert signs.inactive[0].tolist() == [False, True, False, True]
    assert signs.active[0].tolist() == [True, False, False, False]
    assert signs.programs == 0


def test_what_intervals_leave_open_is_settled_by_a_program():
    # relu(x - y) and relu(y - x) are never both large: their sum is at most 15, the intervals say 30
    first = np.array([[1.0, -1], [-1, 1]])
    network = from_weights([first, [[1, 1], [-1, -1]], np.eye(2)], [[0, 0], [-16, 15.5], [0, 0]])
    signs = found(network)
    assert signs.programs == 2
    assert signs.inactive[1].tolist() == [True, False]
    assert signs.active[1].tolist() == [False, True]


def test_a_unit_that_can_fire_somewhere_is_kept_though_no_row_shows_it():
    first = np.array([[1.0, -1], [-1, 1]])
    network = from_weights([first, [[1, 1], [-1, -1]], np.eye(2)], [[0, 0], [-14.999, 15], [0, 0]])
    low, high = box(2)
    signs = stability(network, low, high, np.zeros((1, 2)), Solver(time_limit=5))
    assert signs.inactive[1].tolist() == [False, False]


def test_removal_and_merging_change_no_output_in_the_box():
    rng = np.random.default_rng(0)
    weights = np.abs(rng.normal(size=(6, 3)))
    weights[3] = 2 * weights[0] - 0.5 * weights[1] + 3 * weights[2]
    weights[4] = -weights[4]
    rest = [rng.normal(size=(5, 6)), rng.normal(size=(3, 5))]
    network = from_weights([weights, *rest], [np.ones(6), np.ones(5), np.zeros(3)])
    network = network.with_layer(0, FloatDense(weights, [1, 1, 1, 4, -1, 1.0]))
    smaller = compressed(network, found(network))
    rows = points(3, seed=1)
    assert smaller.widths[0] == 3  # one never fires, and of five that always do three are independent
    assert np.allclose(smaller.scores(rows), network.scores(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_keep_their_outputs(seed):
    network = dense_network((3, 8, 8, 3), seed)
    smaller = compressed(network, found(network))
    rows = points(3, seed=1)
    assert np.allclose(smaller.scores(rows), network.scores(rows), rtol=1e-9, atol=1e-7)


def test_channels_go_where_no_position_fires_and_are_never_merged():
    network = conv_network()
    first = network.layers[0]
    weights, bias = first.weights.copy(), first.bias.copy()
    weights[1], bias[1] = -np.abs(weights[1]), -1.0
    weights[2], bias[2] = np.abs(weights[2]), 1.0
    weights[3], bias[3] = 2 * weights[2], 2.0
    network = network.with_layer(0, FloatConv(weights, bias, padding=first.padding))
    smaller = compressed(network, found(network, stop=lambda: True))
    rows = points(64, 50, seed=1)
    assert smaller.widths[0] == 3
    assert np.allclose(smaller.scores(rows), network.scores(rows))


def test_a_layer_that_never_fires_keeps_one_unit():
    network = two_layers(-np.ones((4, 3)), -np.ones(4))
    smaller = compressed(network, found(network))
    assert smaller.widths[1] == 1


def test_stop_leaves_open_what_is_open():
    network = dense_network((3, 8, 8, 3))
    assert found(network, stop=lambda: True).programs == 0


# ---- integers


def quantised(reader, high=255):
    """Four units of which the second is always 0 and the third always 255, then ``reader``."""
    units = Dense([[1, 0], [-1, -1], [0, 0], [0, 1]], [0, 0, 255, 3], Activation.RELU,
                  Requantisation([0] * 4, [16384] * 4, [14] * 4))  # fmt: skip
    return Network(np.zeros(2), np.full(2, high), (units, reader), Argmax(3), ("a", "b", "c"))


def test_constant_units_are_folded_to_the_last_bit():
    network = quantised(Dense([[1, 2, 3, 4], [5, 6, 7, 8], [-1, -2, -3, -4]], [10, 20, 30]))
    smaller, count = without_constants(network)
    rows = np.random.default_rng(0).integers(0, 256, (200, 2))
    assert count == 2
    assert smaller.layers[0].units == 2
    assert smaller.layers[1].bias.tolist() == [10 + 3 * 255, 20 + 7 * 255, 30 - 3 * 255]
    assert (smaller.sums(rows) == network.sums(rows)).all()


def test_constant_channels_go_unless_padding_would_show():
    rng = np.random.default_rng(0)
    shape = (1, 6, 6)

    def network(padding, value):
        first = Conv2d(rng.integers(-5, 6, (3, 1, 3, 3)), [4, 5, 6], activation=Activation.RELU,
                       requantisation=Requantisation([0] * 3, [9000] * 3, [14] * 3))  # fmt: skip
        weights = first.weights.copy()
        weights[1] = 0
        first = Conv2d(weights, first.bias, activation=Activation.RELU, requantisation=first.requantisation)
        second = Conv2d(rng.integers(-5, 6, (2, 3, 2, 2)), [1, 2], (1, 1), (padding,) * 4, value, Activation.RELU,
                        Requantisation([0] * 2, [900] * 2, [14] * 2))  # fmt: skip
        side = 1 + 2 * padding if padding else 1
        last = Dense(rng.integers(-5, 6, (2, 2 * side * side)), [0, 0])
        return Network(np.zeros(36), np.full(36, 15), (first, MaxPool((2, 2), (2, 2)), second, last), Argmax(2),
                       ("a", "b"), shape)  # fmt: skip

    rows = rng.integers(0, 16, (50, 36))
    for padding, value, gone in ((0, 0, 1), (1, 0, 0), (1, 3, 1)):
        whole = network(padding, value)
        smaller, count = without_constants(whole)
        assert count == gone
        assert (smaller.sums(rows) == whole.sums(rows)).all()


def test_a_layer_of_constants_keeps_one():
    units = Dense([[0, 0], [0, 0]], [7, 9], Activation.RELU, Requantisation([0, 0], [16384] * 2, [14] * 2))
    network = Network(np.zeros(2), np.ones(2), (units, Dense(np.eye(2), [0, 0])), Argmax(2), ("a", "b"))
    smaller, count = without_constants(network)
    assert (count, smaller.layers[0].units) == (1, 1)
    assert (smaller.sums(np.array([[0, 1]])) == network.sums(np.array([[0, 1]]))).all()


def test_nothing_to_fold_gives_the_same_network():
    first = FloatNetwork((FloatDense(np.eye(2), np.zeros(2), relu=False),), (2,))
    assert first.prunable == ()
    network = Network(np.zeros(2), np.ones(2), (Dense(np.eye(2), [0, 0]),), Argmax(2), ("a", "b"))
    assert without_constants(network) == (network, 0)
