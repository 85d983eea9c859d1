"""Networks of sign units: predictions, what one unit can change, thresholds."""

import numpy as np
import pytest

from mip2mcu.mip.solver import Solver
from mip2mcu.progress import never, silent
from mip2mcu.train.best_response import Engine, best_threshold
from mip2mcu.train.goal import Goal
from mip2mcu.train.reduction import WeightDomain, reduce
from mip2mcu.train.sign_network import SignNetwork, as_network, decide, errors, leads, least_errors
from mip2mcu.train.sign_start import first_network
from tests.training import random_data, separated_data


def random_units(rng, widths):
    return SignNetwork(
        tuple(rng.integers(-2, 3, shape) for shape in zip(widths[1:], widths, strict=False)),
        tuple(rng.integers(-2, 3, width) for width in widths[1:]),
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("hidden", [(3,), (3, 2)])
def test_predictions_and_errors_are_those_of_the_exact_network(classes, hidden):
    data = random_data(3, rows=12, inputs=4, classes=classes)
    reduction = reduce(data, WeightDomain(2))
    units = random_units(
        np.random.default_rng(1), (len(reduction.groups), *hidden, 1 if classes == 2 else classes)
    )
    network = as_network(units, reduction, data)
    assert errors(units, reduction) == int((network.predict(data.inputs) != data.labels).sum())


def test_leads_begin_with_the_next_class():
    sums = np.array([[5, 3, 4], [1, 7, 0]])
    assert leads(sums, np.array([0, 1])).tolist() == [[2, 1], [7, 6]]
    assert leads(np.array([[3], [3]]), np.array([0, 1])).tolist() == [[3], [-3]]


def test_units_can_be_added_and_silenced_without_a_change_of_the_others():
    units = random_units(np.random.default_rng(0), (4, 3, 2, 1))
    rows = np.random.default_rng(1).integers(0, 4, (9, 4))
    wider = units.padded((4, 5))
    assert wider.hidden == (4, 5)
    assert wider.predict(rows).tolist() == units.predict(rows).tolist()
    assert [used.tolist() for used in wider.used()] == [used.tolist() for used in units.used()]
    assert 1 not in units.without(0, 1).used()[0]


def test_ties_go_to_the_lowest_index_and_zero_to_class_0():
    assert decide(np.array([[1, 3, 3], [2, 2, 2]])).tolist() == [1, 0]
    assert decide(np.array([[0], [-1]])).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_best(seed):
    rng = np.random.default_rng(seed)
    sums, cost = rng.integers(-4, 5, 9), rng.integers(-3, 4, 9)
    value, bias = best_threshold(sums, cost)
    assert value == cost[sums + bias >= 0].sum() == min(cost[sums + b >= 0].sum() for b in range(-10, 11))


def test_errors_that_no_classifier_avoids_are_counted():
    data = random_data(0)
    assert least_errors(reduce(data, WeightDomain(1))) >= 1


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("binary", [False, True])
def test_the_first_network_is_in_the_domain_and_better_than_chance(classes, binary):
    data = separated_data(rows=60, classes=classes)
    domain = WeightDomain(1, binary)
    reduction = reduce(data, domain)
    engine = Engine(reduction, Goal("max-correct", 1), Solver(), silent, never)
    found = first_network(data, engine, (4, 3))
    assert [w.shape[0] for w in found.weights] == [4, 3, 1 if classes == 2 else 3]
    assert errors(found, reduction) <= data.rows // 4
    network = as_network(found, reduction, data)
    allowed = {-1, 1} if binary else {-1, 0, 1}
    assert all(set(layer.weights.flat) <= allowed for layer in network.layers)
