"""The search for vectors: what can be met is met, what cannot is proved, and the same seed gives the same rows."""

from itertools import product
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.layers import Activation, Conv2d, Dense, Requantisation
from mip2mcu.mip import inputs
from mip2mcu.mip.inputs import InputSearch, is_searchable
from mip2mcu.network import Network
from mip2mcu.verify.goals import SumGoal, TieGoal, goals_of, trace
from mip2mcu.verify.hunting import Tally, hunt, linear_form
from tests.cnns import random_cnn
from tests.verify_support import linear_network, sign_network, vote_network


def network_of(layers, decision, low, high):
    inputs = layers[0].weights.shape[1]
    labels = tuple(f"class {c}" for c in range(decision.classes))
    return Network(np.full(inputs, low), np.full(inputs, high), tuple(layers), decision, labels)


def tiny_network(seed):
    """Few enough inputs that all rows can be listed."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 5))
    classes = int(rng.integers(2, 5))
    decision = [Argmax(classes), Sign(), Vote(classes), Vote(max(classes, 3), 3)][rng.integers(0, 4)]
    layers, width = [], inputs
    for _ in range(int(rng.integers(0, 3))):
        units = int(rng.integers(1, 5))
        weights, bias = rng.integers(-3, 4, (units, width)), rng.integers(-4, 5, units)
        layer = Dense(weights, bias, Activation.SIGN)
        if rng.integers(0, 3) == 0:
            mult, shift = rng.integers(0, 400, units), rng.integers(1, 7, units)
            layer = Dense(weights, bias, Activation.RELU, Requantisation(rng.integers(0, 3, units), mult, shift))
        layers.append(layer)
        width = units
    units = decision.sums_expected()
    layers.append(Dense(rng.integers(-3, 4, (units, width)), rng.integers(-4, 5, units)))
    return network_of(layers, decision, 0, int(rng.integers(1, 4)))


def all_rows(network):
    ranges = (range(low, high + 1) for low, high in zip(network.input_low, network.input_high, strict=True))
    return np.array(list(product(*ranges)))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_every_goal_is_met_or_impossible_as_the_list_of_all_rows_tells(seed):
    network = tiny_network(seed)
    everything = trace(network, all_rows(network))
    goals = goals_of(network, 100)
    tallies = hunt(network).tallies
    for kind in tallies:
        own = [(goal.distance(everything) == 0).any() for goal in goals if goal.kind == kind]
        found = sum(map(int, own))
        assert (tallies[kind].wanted, tallies[kind].found) == (len(own), found)
        assert tallies[kind].impossible <= len(own) - found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
@example(197)  # takes more than 100 nodes
def test_the_mip_answers_as_the_list_of_all_rows_tells(seed):
    network = tiny_network(seed)
    everything = trace(network, all_rows(network))
    search = InputSearch(network)
    for goal in goals_of(network, 3)[-6:]:
        possible = (goal.distance(everything) == 0).any()
        with mock.patch.object(inputs, "_NODE_LIMIT", 100_000):  # a small one leaves some without an answer
            if isinstance(goal, TieGoal):
                answer = search.tie(goal.count)
            else:
                answer = search.sum_equals(goal.layer, goal.unit, goal.value)
        assert answer.is_impossible == (not possible)
        if possible:
            assert goal.distance(trace(network, answer.row[None])) == [0]


def test_rows_are_what_their_kind_says():
    for network, tied in ((linear_network(), 2), (vote_network(), 2), (vote_network(), 3)):
        kind = {2: "two_way_ties", 3: "three_way_ties"}[tied]
        scores = network.scores(hunt(network).rows[kind].astype(np.int64))
        assert len(scores) > 0
        assert ((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) == tied).all()


def test_what_cannot_be_is_proved_by_divisors_by_ranges_and_by_a_mip():
    even = Dense([[2, -4]], [1])  # an odd sum, always
    assert hunt(network_of([even], Sign(), 0, 9)).tallies["thresholds"] == Tally(2, 1, 1)
    positive = Dense([[1, 1]], [5])
    assert hunt(network_of([positive], Sign(), 0, 9)).tallies["thresholds"] == Tally(2, 0, 2)
    twice = Dense([[1, 1], [1, 1]], [-3, -3], Activation.SIGN)
    contrary = network_of([twice, Dense([[1, -1]], [0])], Sign(), 0, 9)
    assert hunt(contrary).tallies["extremes"] == Tally(6, 4, 2)  # two equal units never differ


def test_sums_that_building_and_climbing_miss_are_solved_for():
    # 24 inputs of two values, weights so large that only exact combinations hit 0: a knapsack
    rng = np.random.default_rng(3)
    weights = rng.integers(1000, 30000, 24)
    target = int(weights[rng.random(24) < 0.5].sum())
    network = network_of([Dense([weights], [-target])], Sign(), 0, 1)
    answer = InputSearch(network).sum_equals(0, 0, 0)
    assert answer.row is None or network.sums(answer.row[None]).tolist() == [[0]]
    assert not answer.is_impossible


def test_a_requantised_sum_is_met_where_its_output_changes():
    relu = Dense([[1]], [-10], Activation.RELU, Requantisation([0], [1], [2]))  # (t + 2) >> 2
    network = network_of([relu, Dense([[1]], [0])], Sign(), 0, 2000)
    wanted = sorted(goal.value for goal in goals_of(network, 9) if goal.kind == "thresholds" and goal.layer == 0)
    assert wanted == [-1, 0, 1, 2, 1017, 1018]
    outputs = relu.forward(np.array([[value + 10] for value in wanted]))[:, 0]
    assert outputs.tolist() == [0, 0, 0, 1, 254, 255]


@pytest.mark.parametrize("seed", range(12))
def test_the_form_of_a_convolution_is_what_it_computes(seed):
    network = random_cnn(seed)
    first = network.layers[0]
    if not isinstance(first, Conv2d):
        return
    rng = np.random.default_rng(seed)
    rows = rng.integers(network.input_low, network.input_high + 1, (5, network.inputs))
    sums = trace(network, rows).sums[0]
    for unit in range(first.units):
        weights, constant = linear_form(network, unit)
        assert ((sums[:, unit] == (rows @ weights + constant)[:, None]).any(axis=1)).all()


def test_extremes_of_a_convolution_are_met():
    kernel = np.array([[[[1, -2], [3, 0]]], [[[-1, 0], [0, -1]]]])
    layers = (Conv2d(kernel, [4, -4], activation=Activation.SIGN), Dense(np.ones((2, 18), int), [0, 1]))
    network = Network(np.zeros(16, int), np.full(16, 255), layers, Argmax(2), ("a", "b"), (1, 4, 4))
    sums = trace(network, hunt(network).rows["extremes"].astype(np.int64)).sums[0]
    assert (sums[:, 0].min(), sums[:, 0].max()) == (4 - 2 * 255, 4 + 4 * 255)
    assert (sums[:, 1].min(), sums[:, 1].max()) == (-4 - 2 * 255, -4)


def test_data_rows_are_looked_through():
    layer = Dense([[3, 5, 7, 9] * 5], [-20000])
    network = network_of([layer], Sign(), 0, 10**4)
    row = np.zeros(20, dtype=int)
    row[0], row[1] = 5000, 1000
    assert hunt(network, row[None]).tallies["thresholds"].found >= 1


def test_the_same_seed_gives_the_same_rows():
    first, second = (hunt(sign_network(), seed=4) for _ in range(2))
    for kind in first.rows:
        np.testing.assert_array_equal(first.rows[kind], second.rows[kind])


def test_goals_of_many_units_are_a_sample():
    goals = goals_of(network_of([Dense(np.ones((900, 2), int), np.zeros(900, int))], Argmax(900), 0, 1), 30)
    assert len({goal.unit for goal in goals if isinstance(goal, SumGoal)}) == 30


def test_networks_with_other_layers_are_not_put_into_a_mip():
    assert is_searchable(sign_network())
    assert not is_searchable(random_cnn(1))  # a convolution
